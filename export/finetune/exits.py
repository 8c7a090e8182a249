"""What early exits would cost and save: only the candidates that an earlier layer likes best go on to the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...engine.scoring.fit import Domain, mean_ndcg

CUTS = (10, 20, 40)


@dataclass(frozen=True, slots=True)
class Exit:
    """One point of the curve: after `layer` the `kept` best by fused score go on."""

    layer: int
    kept: int
    ndcg: float
    compute: float
    """Share of the layers' work that is left, all passages being equally long."""


def exit_curve(
    domains: Sequence[Domain], layers: Sequence[int], depth: int, recall_weight: float, cuts: Sequence[int] = CUTS
) -> list[Exit]:
    """nDCG@10 for each exit and cut.

    domains: one collection's questions with the logits after each of `layers`, then after the last layer (`depth`).
    A dropped candidate keeps its place behind all that went on, in the exit's own order.
    """
    last = domains[-1]
    curve = []
    for layer, early in zip(layers, domains[:-1], strict=True):
        for kept in cuts:
            scores = []
            counts = []
            for begun, final in zip(early.fused(recall_weight), last.fused(recall_weight), strict=True):
                order = np.argsort(-begun, kind="stable")
                score = np.empty(len(order))
                score[order] = -1e6 - np.arange(len(order))
                going = order[:kept]
                score[going] = final[going]
                scores.append(score)
                counts.append(len(going) / len(order))
            compute = (layer + (depth - layer) * float(np.mean(counts))) / depth
            curve.append(Exit(layer, kept, mean_ndcg(scores, last.gains), compute))
    return curve
