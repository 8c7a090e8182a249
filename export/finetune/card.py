"""The model card beside what was trained: what it is, what it was trained on, how good it was found to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..source.record import AdapterRecord

ORDERS, MEASURES = ("recall", "evidence", "rerank", "fused"), ("accuracy@1", "ndcg@10")


def card(record: AdapterRecord) -> str:
    """Markdown with everything in `record`; the licences of the training data are the trainer's to add."""
    trained, quality = record.trained, record.quality
    settings = trained.get("settings", {})
    sections = [
        _head(record, settings.get("rank", 0)),
        "## Training",
        f"{trained.get('steps')} steps of {settings.get('lists')} questions with 1 + {settings.get('negatives')} "
        f"passages in {trained.get('minutes')} minutes ({trained.get('machine')}); the weights of step "
        f"{trained.get('kept_step')} were kept by validation. The last layer's loss is half on its logits and half on "
        "logit + weighted evidence, both list-wise; the exits learn from it and from the last layer.",
        _table(["source", "lists"], trained.get("data", {}).items()),
        *_begun(trained.get("start")),
        "What it was told:",
        _table(
            ["setting", "value"], [*settings.items(), *((name, trained.get(name)) for name in ("encoder", "judge"))]
        ),
        "## Validation",
        "Candidates with the best evidence, for questions whose answer is among them. No such question was trained "
        "on; of a domain that is not in the table above no text was.",
        _quality(quality["validation"], trained.get("data", {})),
        f"Fitted weight of the evidence: {record.fusion.recall_weight:.3f} ({record.fusion.fitted_on}). The weight "
        "fitted without a domain, applied to it:",
        _table(
            ["domain left out", "weight", "recall", "fused", "relevance off by"],
            (
                [name, f"{row['weight']:.2f}", *(f"{row[key]:.3f}" for key in ("recall", "fused", "calibration_error"))]
                for name, row in quality["domain_left_out_of_the_fit"].items()
            ),
        ),
        "## Test sets",
        "Never trained or fitted on. 100 candidates of exact recall over the whole corpus, title and text.",
        _quality(quality["test"], trained.get("data", {})),
        "Relevance: how far what it promises is from what holds, in the mean over ten bins of the ten best hits of "
        "each question (expected calibration error).",
        _table(
            ["set", "off by"],
            (
                [name, "–" if row.get("calibration_error") is None else f"{row['calibration_error']:.3f}"]
                for name, row in quality["test"].items()
            ),
        ),
        "Early exits: only the best by an earlier layer's fused score go on to the last layer; compute is the share of "
        "the layers' work that is left.",
        _table(["set", "layer", "go on", "nDCG@10", "compute"], _curve(quality["test"])),
        "## Files",
        _table(["file", "sha256"], ([f"`{name}`", f"`{digest}`"] for name, digest in record.files.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _head(record: AdapterRecord, rank: int) -> str:
    base = record.base
    what = (
        f"# Reranker adapter on {base.name}\n\nA LoRA adapter (rank {rank} on every linear layer, the head in full; "
        f"float16), a standard PEFT folder, that makes a cross-encoder of {base.name}"
        if rank
        else f"# Reranker from {base.name}\n\nA cross-encoder, all of whose weights were trained, from {base.name}"
    )
    exits = ", ".join(map(str, record.exits)) or "none"
    return f"{what} ({base.layers} layers, hidden {base.hidden}). `exits.safetensors` has heads after layers {exits}."


def _begun(start: dict[str, Any] | None) -> list[str]:
    """What the training went on from."""
    chain = []
    while start:
        chain.append(f"{start.get('steps')} steps ({start.get('minutes')} minutes)")
        start = start.get("start")
    return [f"It went on from a training of {', before that '.join(chain)}."] if chain else []


def _quality(sets: dict[str, dict[str, Any]], trained: dict[str, Any]) -> str:
    head = [
        "set",
        "trained on its kind",
        "questions",
        *(f"{measure} {order}" for measure in MEASURES for order in ORDERS),
    ]
    rows = (
        [
            name,
            "yes" if name in trained else "no",
            row["questions"],
            *(f"{row[measure][order]:.3f}" for measure in MEASURES for order in ORDERS),
        ]
        for name, row in sets.items()
    )
    return _table(head, rows)


def _curve(sets: dict[str, dict[str, Any]]) -> Iterable[list[Any]]:
    return (
        [name, point["layer"], point["kept"], f"{point['ndcg']:.3f}", f"{point['compute']:.2f}"]
        for name, row in sets.items()
        for point in row["exit_curve"]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
