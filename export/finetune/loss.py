"""What a step minimises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

EXIT_WEIGHT = 0.3
# Pairs that a CPU reads at once, of about one length, so that little is computed on padding.
GROUP = 8
Lists = tuple[list[str], list[list[str]], list[list[float]], list[list[float]], Any]


class ListLoss(nn.Module):
    """List-wise losses of the last layer and of every exit, as sentence-transformers' trainer takes them."""

    def __init__(self, model: nn.Module, cosine_weight: float, label_weight: float) -> None:
        super().__init__()
        self.model = model
        self.cosine_weight, self.label_weight = cosine_weight, label_weight

    def forward(
        self, inputs: Lists, labels: list[Tensor], prompt: str | None = None, task: str | None = None
    ) -> dict[str, Tensor]:
        """The loss of lists of one size: `inputs` and `labels` are the columns of `lists.FEATURES`."""
        queries, passages, cosines, evidence, _ = inputs
        pairs = [(query, passage) for query, each in zip(queries, passages, strict=True) for passage in each]
        scores, weight = self._scores(pairs)
        tensors = [torch.as_tensor(each, device=scores.device) for each in (cosines, evidence)]
        target = torch.stack(list(labels)).to(scores.device)
        return reranking_loss(
            scores.view(len(scores), len(queries), -1), tensors[1], weight, target,
            self.cosine_weight * tensors[0] + self.label_weight * target,
        )  # fmt: skip

    def _scores(self, pairs: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        """float32 [exits + 1, n] in the order of `pairs`, and the weight of the evidence."""
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        device = next(self.model.parameters()).device
        group = GROUP if device.type == "cpu" else len(pairs)
        found = []
        for start in range(0, len(order), group):
            features = self.model.preprocess([pairs[row] for row in order[start : start + group]])  # type: ignore[operator]
            features = {key: each.to(device) if isinstance(each, Tensor) else each for key, each in features.items()}
            features = self.model(features)
            found.append(torch.cat([features["exit_scores"], features["scores"].T.float()]))
        back = torch.as_tensor(order, device=device).argsort()
        return torch.cat(found, dim=1)[:, back], features["evidence_weight"]


def reranking_loss(scores: Tensor, evidence: Tensor, weight: Tensor, labels: Tensor, aim: Tensor) -> dict[str, Tensor]:
    """The parts of the loss, of which the sum is minimised.

    scores: float32 [exits + 1, b, k], the last layer's last; evidence: float32 [b, k]; weight: positive scalar;
    labels: float32 [b, k], 1 for an answer; aim: float32 [b, k]

    `alone` is half of the last layer's loss: the Kullback-Leibler divergence of the softmax of a list's logits from the
    softmax of `aim`, what the reranker is to order by when it stands alone. `fused` is the other half: the
    cross-entropy of `logit + weight * evidence`, the order that is served, with the labels. It teaches the reranker to
    correct recall rather than to repeat it. An exit has a share of both, and learns as much from the last layer's fused
    order (detached): `exits`.
    """
    target, share = softmax(aim, dim=-1), labels / labels.sum(dim=-1, keepdim=True)
    fused = scores + weight * evidence
    teacher = softmax(fused[-1].detach(), dim=-1)
    alone = torch.stack([_divergence(layer, target) for layer in scores])
    together = torch.stack([cross_entropy(layer, share) for layer in fused])
    copied = [cross_entropy(layer, teacher) for layer in fused[:-1]]
    early = [0.25 * (together[i] + alone[i]) + 0.5 * each for i, each in enumerate(copied)]
    parts = {"alone": 0.5 * alone[-1], "fused": 0.5 * together[-1]}
    return parts if not early else {**parts, "exits": EXIT_WEIGHT * torch.stack(early).sum()}


def _divergence(scores: Tensor, target: Tensor) -> Tensor:
    return kl_div(log_softmax(scores, dim=-1), target, reduction="batchmean")
