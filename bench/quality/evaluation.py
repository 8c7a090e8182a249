"""What `tandem eval --save` keeps: the quality of one collection as a document for the report."""

from __future__ import annotations

import math

from ...engine import Engine
from ..document import Document, Table, document
from ..workloads import model_names
from .evaluate import Quality

MEASURES = "how often the wanted passage comes first, or among the first, in each order over the same candidates"


def said(quality: Quality) -> str:
    """How much was read, in words."""
    read = quality.read
    return (
        f"Effort {quality.effort}: the cross-encoder read the {read['reranked']:.1f} candidates with the best "
        f"evidence, {read['finalists']:.1f} by all layers, {read['reread']:.1f} once more in windows (means)"
    )


def evaluation(quality: Quality, engine: Engine, *, name: str, seed: int) -> Document:
    """The document of an evaluation of `engine` on the judged set `name`, whose sample was drawn with `seed`."""
    columns = list(quality.metrics["recall"])
    rows = [
        [order, *(f"{found[each]:.3f}" if each in found else None for each in columns)]
        for order, found in quality.metrics.items()
    ]
    share = list(quality.metrics.values())[-1]["accuracy@1"]
    error = 100 * math.sqrt(share * (1 - share) / quality.questions)
    settings, models = engine.collection.manifest.settings, model_names(engine)
    reranker = f", {models['reranker']}" if models.get("reranker") else ""
    title = f"{name}, {quality.questions:,} questions{reranker}"
    notes = [
        f"{quality.candidates} candidates; recall weight {quality.recall_weight:.3g}, lexical weight "
        f"{quality.lexical_weight:.3g}. Evidence is recall and words in common, before any reranking.",
        f"Standard error of the last accuracy@1: {error:.1f} points.",
    ]
    if quality.budget_ms is not None:
        notes.append(f"A search has {quality.budget_ms:g} ms.")
    if "fused" in quality.metrics:
        notes.append(f"{said(quality)}.")
    if quality.degraded:
        notes.append(f"{quality.degraded} searches were degraded by the budget.")
    return document(
        "eval", MEASURES,
        workload={
            "name": name, "questions": quality.questions, "seed": seed, "passages": len(engine.collection),
            **models, "encode_title": settings.encode_title, "rerank_title": settings.rerank_title,
        },
        tables=[Table(title, ["order", *columns], rows, notes)],
        **{key: value for key, value in quality.to_dict().items() if key != "questions"},
    )  # fmt: skip
