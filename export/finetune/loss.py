"""What a step minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax

EXIT_WEIGHT = 0.3


def reranking_loss(scores: Tensor, evidence: Tensor, recall_weight: Tensor) -> tuple[Tensor, Tensor]:
    """List-wise softmax over one positive and its negatives, for the last layer and every exit.

    scores: float32 [exits + 1, b, k], the positive first; evidence: float32 [b, k]; recall_weight: positive scalar
    returns: the loss, and float32 [exits + 1] the cross-entropy of each layer's fused order, detached

    Half the loss is on the bare logits, half on `logit + recall_weight * evidence`, the order that is served: the
    second half teaches the reranker to correct recall rather than to repeat it, the first that it can stand alone. An
    exit learns from the labels and from the last layer's fused order (Kullback-Leibler, detached).
    """
    target = torch.zeros(evidence.shape[0], dtype=torch.long)
    fused = scores + recall_weight * evidence
    teacher = softmax(fused[-1].detach(), dim=-1)
    fused_losses = torch.stack([cross_entropy(layer, target) for layer in fused])
    bare_losses = torch.stack([cross_entropy(layer, target) for layer in scores])
    loss = 0.5 * (fused_losses[-1] + bare_losses[-1])
    for layer in range(len(scores) - 1):
        distilled = -(teacher * log_softmax(fused[layer], dim=-1)).sum(-1).mean()
        loss = loss + EXIT_WEIGHT * (0.25 * fused_losses[layer] + 0.25 * bare_losses[layer] + 0.5 * distilled)
    return loss, torch.cat([fused_losses.detach(), bare_losses.detach()])
