"""Do the rivals compute what Tandem computes? Their scores for the same pairs, beside our FP32 ones.

Before any speed is compared: a rival that reads other text, other segments or other weights is not slower or faster, it
does something else. FlashRank's scores are sigmoids and others logits, so ranks are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..engine.models.cross_encoder import CrossEncoder
from ..export.parity.compare import Scores, compare
from .document import Document, Table, document, not_here
from .rivals import RIVALS, check_known
from .setup import Setup
from .turns import Unavailable
from .workloads import reranked_texts, said

MEASURES = "whether each rival's scores order the same pairs as Tandem's FP32 scores do, and which rivals run here"
AGREES = 0.99
"""Kendall tau from which an FP32 rival is said to agree: below it text, segments or weights differ."""
AGREES_INT8 = 0.8
"""The same for INT8, whose activations share a scale with whatever is in the batch."""


def agreement(
    setup: Setup, *, sample: int = 3, candidates: int = 20, absent: Mapping[str, str] | None = None
) -> Document:
    """Kendall tau and top-10 overlap of each rival's order with ours over `sample` questions.

    `absent` are rivals already known to be missing, with the reason.
    """
    reranker = CrossEncoder(setup.reranker.artifact, setup.engine.device, "fp32")
    asked = setup.asked(sample, candidates)
    texts = reranked_texts(setup.engine)
    passages = [[texts[row] for row in some] for some in asked.rows]
    pairs = list(zip(asked.questions, passages, strict=True))
    ours = np.stack([reranker.score(*pair) for pair in pairs])
    check_known(setup.rivals)
    reasons = dict(absent or {})
    found: dict[str, dict[str, Any]] = {}
    for name in [name for name in setup.rivals if name not in reasons]:
        # One after the other: eleven at once would take each other's memory for nothing.
        with replace(setup, rivals=[name]).running() as (started, missing):
            reasons |= missing
            for rival in started:
                try:
                    theirs = np.stack([rival.rerank(*pair).values for pair in pairs])
                except Unavailable as reason:
                    reasons[name] = str(reason)
                else:
                    found[name] = {**_compared(ours, theirs, rival.spec.precision), "versions": rival.versions}
    description = setup.described(asked.questions, asked.lengths, candidates=asked.candidates)
    table = _table(description, found, reasons)
    return document("rivals", MEASURES, workload=description, tables=[table], rivals=found, absent=reasons)


def _table(workload: dict[str, Any], found: dict[str, dict[str, Any]], reasons: dict[str, str]) -> Table:
    return Table(
        "Rivals here, and whether they compute the same",
        ["rival", "Kendall tau", "top-10 overlap", "largest difference", "agrees", "versions"],
        [[name, each["tau"], each["top10"], each["difference"], _verdict(name, each["agrees"]),
          " ".join(f"{package} {version}" for package, version in each["versions"].items())]
         for name, each in found.items()],
        [said(workload), f"against our FP32 graph; an INT8 rival agrees from tau {AGREES_INT8} on, since INT8 "
         "scores depend on the batch; FlashRank's scores are sigmoids, so its difference is not one of logits",
         *not_here(reasons)],
    )  # fmt: skip


def _verdict(name: str, agrees: bool) -> str:
    differs = RIVALS[name].differs
    return f"no: {differs}" if differs else "yes" if agrees else "no"


def _compared(ours: Scores, theirs: Scores, precision: str) -> dict[str, Any]:
    """Of two tables [questions, candidates]."""
    found = compare(ours, theirs)
    return {
        "tau": round(found.kendall_tau, 4), "top10": round(found.top10_overlap, 3),
        "difference": float(f"{found.max_error:.3g}"),
        "agrees": found.kendall_tau >= (AGREES if precision == "fp32" else AGREES_INT8),
    }  # fmt: skip
