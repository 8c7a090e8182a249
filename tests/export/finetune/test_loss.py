"""The loss against a plain one in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tandem.export.finetune.loss import EXIT_WEIGHT, ListLoss, reranking_loss


def softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values - values.max())
    return shares / shares.sum()


def plain(scores: np.ndarray, evidence: np.ndarray, weight: float, labels: np.ndarray, aim: np.ndarray) -> float:
    """Question by question, layer by layer."""
    layers, questions, _ = scores.shape
    total = 0.0
    for question in range(questions):
        target, share = softmax(aim[question]), labels[question] / labels[question].sum()
        fused = [scores[layer, question] + weight * evidence[question] for layer in range(layers)]
        teacher = softmax(fused[-1])
        for layer in range(layers):
            logs = np.log(softmax(scores[layer, question]))
            alone = float((target * (np.log(target) - logs)).sum())
            together = -float((share * np.log(softmax(fused[layer]))).sum())
            copied = -float((teacher * np.log(softmax(fused[layer]))).sum())
            last = 0.5 * (alone + together)
            total += last if layer == layers - 1 else EXIT_WEIGHT * (0.25 * (alone + together) + 0.5 * copied)
    return total / questions


@pytest.mark.parametrize("layers", [1, 3])
def test_the_loss_is_the_plain_one(layers: int):
    draw = np.random.default_rng(layers)
    scores, evidence = draw.normal(size=(layers, 4, 6)), draw.uniform(0, 1, (4, 6))
    labels = np.zeros((4, 6))
    labels[:, 0] = 1
    labels[2, 3] = 1  # a question with two answers
    aim = 20 * evidence + 2 * labels
    parts = reranking_loss(*map(torch.from_numpy, (scores, evidence)), torch.tensor(7.0, dtype=torch.float64),
                           torch.from_numpy(labels), torch.from_numpy(aim))  # fmt: skip
    assert float(sum(parts.values())) == pytest.approx(plain(scores, evidence, 7.0, labels, aim), rel=1e-9)
    assert ("exits" in parts) == (layers > 1)


def test_labels_alone_are_the_list_wise_softmax():
    scores, labels = torch.randn(1, 3, 5, dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
    labels[:, 0] = 1
    parts = reranking_loss(scores, torch.zeros_like(labels), torch.tensor(1.0), labels, 1e3 * labels)
    expected = torch.nn.functional.cross_entropy(scores[0], torch.zeros(3, dtype=torch.long))
    assert float(parts["alone"]) == pytest.approx(0.5 * float(expected))


class Reader(torch.nn.Module):
    """Stands for a model whose score of a pair is the passage's length, of its exit twice that."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.sizes: list[int] = []

    def preprocess(self, pairs: list[tuple[str, str]]) -> dict[str, object]:
        self.sizes.append(len(pairs))
        return {"lengths": torch.tensor([float(len(passage)) for _, passage in pairs])}

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        scores = self.weight * features["lengths"]
        return {"scores": scores[:, None], "exit_scores": 2 * scores[None], "evidence_weight": self.weight}


def test_pairs_that_are_read_by_length_keep_their_places():
    model, draw = Reader(), np.random.default_rng(0)
    passages = [["x" * int(size) for size in draw.integers(1, 9, 6)] for _ in range(4)]
    labels = [torch.tensor([1.0, 0, 0, 0, 0, 0])] * 4
    cosines = draw.uniform(0, 1, (4, 6)).tolist()
    parts = ListLoss(model, 20.0, 2.0)((["q"] * 4, passages, cosines, cosines, [0] * 4), labels)
    lengths = np.array([[len(each) for each in row] for row in passages], dtype=float)
    expected = plain(np.stack([2 * lengths, lengths]), np.array(cosines), 1.0, np.stack(labels),
                     20 * np.array(cosines) + 2 * np.stack(labels))  # fmt: skip
    assert sum(part.item() for part in parts.values()) == pytest.approx(expected, rel=1e-5)
    assert len(model.sizes) > 1
