"""Do the rivals compute what Tandem computes? Their scores for the same pairs, beside our FP32 ones.

Before any speed is compared: a rival that reads other text, other segments or other weights is not slower or faster, it
does something else. FlashRank's scores are sigmoids and others logits, so ranks are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.models.cross_encoder import CrossEncoder
from .document import Document, Table, document
from .latency import needed_reranker
from .rivals import RIVALS, Rival, Unavailable
from .workloads import Workload, candidate_rows, described, pair_lengths, reranked_texts, said

MEASURES = "whether each rival's scores order the same pairs as Tandem's FP32 scores do, and which rivals run here"
AGREES = 0.99
"""Kendall tau from which an FP32 rival is said to agree: below it text, segments or weights differ."""
AGREES_INT8 = 0.8
"""The same for INT8, whose activations share a scale with whatever is in the batch."""


def agreement(
    engine: Engine,
    workload: Workload,
    *,
    rivals: Sequence[str],
    sample: int = 3,
    candidates: int = 20,
    environments: Path | None = None,
    seed: int = 0,
    absent: dict[str, str] | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Document:
    """Kendall tau and top-10 overlap of each rival's order with ours over `sample` questions.

    `absent` are rivals already known to be missing, with the reason.
    """
    needed_reranker(engine)
    reranker = CrossEncoder(needed_reranker(engine).artifact, engine.device, "fp32")
    questions = workload.questions(sample, seed)
    rows = candidate_rows(engine, questions, candidates)
    texts = reranked_texts(engine)
    pairs = [(question, [texts[row] for row in some]) for question, some in zip(questions, rows, strict=True)]
    ours = [reranker.score(question, passages) for question, passages in pairs]
    reasons = dict(absent or {})
    found: dict[str, dict[str, Any]] = {}
    for name in rivals:
        if name in reasons:
            continue
        tell(f"starting {name}")
        try:
            with Rival(
                RIVALS[name], engine.encoder.artifact, reranker.artifact, threads=engine.device.threads,
                environments=environments,
            ) as rival:  # fmt: skip
                theirs = [rival.rerank(question, passages).values for question, passages in pairs]
                found[name] = {**_compared(ours, theirs, rival.spec.precision), "versions": rival.versions}
        except Unavailable as reason:
            reasons[name] = str(reason)
    lengths = pair_lengths(engine, reranker, questions, rows)
    description = described(workload, engine, questions, lengths, candidates=len(rows[0]), seed=seed)
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
         *(f"{name} is not here: {reason}" for name, reason in reasons.items())],
    )  # fmt: skip


def _verdict(name: str, agrees: bool) -> str:
    differs = RIVALS[name].differs
    return f"no: {differs}" if differs else "yes" if agrees else "no"


def kendall(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Kendall's tau-b of two score lists: 1 for the same order, ties where the other has them; -1 for the reverse."""
    upper = np.triu_indices(len(a), 1)
    left, right = np.sign(np.subtract.outer(a, a))[upper], np.sign(np.subtract.outer(b, b))[upper]
    possible = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / possible if possible else float(np.array_equal(left, right))


def _compared(ours: Sequence[Any], theirs: Sequence[Any], precision: str) -> dict[str, Any]:
    tau = float(np.mean([kendall(a, b) for a, b in zip(ours, theirs, strict=True)]))
    top = float(np.mean([
        len(set(np.argsort(-a)[:10].tolist()) & set(np.argsort(-b)[:10].tolist())) / min(10, len(a))
        for a, b in zip(ours, theirs, strict=True)
    ]))  # fmt: skip
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    agrees = tau >= (AGREES if precision == "fp32" else AGREES_INT8)
    return {"tau": round(tau, 4), "top10": round(top, 3), "difference": float(f"{difference:.3g}"), "agrees": agrees}
