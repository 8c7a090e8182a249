"""Quality on validation questions, as sentence-transformers' trainer asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.base.evaluation import BaseEvaluator

from ...engine.scoring.fit import fit_over
from .evaluate import JudgedQuestions, ndcg, pairs_of

log = logging.getLogger(__name__)
# Standard deviation of all logits: 1 to 5 when trained, 0.02 before, 0.001 once collapsed.
COLLAPSED = 0.005


class DomainEvaluator(BaseEvaluator):  # type: ignore[misc]
    """nDCG@10 on lists of several domains.

    Its figure is the mean over domains of the last layer's order alone and fused. Not of fused only: where recall is
    strong, that hardly moves while the reranker still learns (bench/LOG.md).
    """

    def __init__(self, domains: Mapping[str, Dataset]) -> None:
        super().__init__()
        self.domains = domains
        self.primary_metric = "mean"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """`mean` and `worst` over domains, and each domain's nDCG@10 of its three orders."""
        judged = {}
        for name, asked in self.domains.items():
            scores = model.predict(
                pairs_of(asked), activation_fn=torch.nn.Identity(), batch_size=32, show_progress_bar=False
            )
            judged[name] = JudgedQuestions.of(asked, np.asarray(scores, dtype=np.float32)[None])
        weight = fit_over([domain.last() for domain in judged.values()]).recall_weight
        found = {name: ndcg(domain.last(), weight) for name, domain in judged.items()}
        means = {name: (row["rerank"] + row["fused"]) / 2 for name, row in found.items()}
        mean, worst = float(np.mean(list(means.values()))), min(means, key=lambda name: means[name])
        log.info(
            "step %d: %.4f in the mean of %d domains, the worst %s %.4f", steps, mean, len(means), worst, means[worst]
        )
        if max(domain.spread for domain in judged.values()) < COLLAPSED:
            log.warning("all passages get one score: the training has collapsed; begin again with half the rate")
        flat = {f"{name} {order}": value for name, row in found.items() for order, value in row.items()}
        return {"mean": mean, "worst": means[worst], "recall_weight": weight, **flat}
