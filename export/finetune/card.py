"""The model card beside an adapter: what it is, what it was trained on, how good it was found to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .record import AdapterRecord


def card(record: AdapterRecord, notes: str = "") -> str:
    """Markdown with everything in `record`, and `notes`: the licences of the training data are the trainer's to add."""
    trained, quality = record.trained, record.quality
    settings = trained["settings"]
    sections = [
        _head(record),
        "## Training",
        f"{trained['steps']} steps of {settings['lists']} questions with 1 + {settings['negatives']} passages in "
        f"{trained['minutes']} minutes ({trained['machine']}), seed {settings['seed']}; the weights of step "
        f"{trained['kept_step']} were kept by validation.{_mixture(trained)}{_judged(settings)} Loss: list-wise "
        "softmax, half on the logit and half on logit + weighted cosine; the exits learn from the labels and from the "
        "last layer.",
        _table(["source", "questions"], trained["data"].items()),
        *_begun(trained.get("start")),
        "```\n" + "\n".join(_commands(record.base.name, trained, "ADAPTER")) + "\n```",
        *([notes] if notes else []),
        "## Validation",
        "Questions on held-back documents of every source, among all its passages: nDCG@10 of the candidates with the "
        "best evidence, where the answer is one of them.",
        _table(
            ["domain", "recall", "rerank", "fused"],
            (
                [name, *(f"{row[key]:.3f}" for key in ("recall", "rerank", "fused"))]
                for name, row in _rows(quality["validation"])
            ),
        ),
        f"Fitted weight of the recall score: {record.fusion.recall_weight:.3f} ({record.fusion.fitted_on}). "
        "The weight fitted without a domain, applied to it:",
        _table(
            ["domain left out", "weight", "recall", "fused"],
            (
                [name, f"{row['weight']:.2f}", f"{row['recall']:.3f}", f"{row['fused']:.3f}"]
                for name, row in _rows(quality["domain_left_out_of_the_fit"])
            ),
        ),
        *_tests(quality["test"]),
        "## Files",
        _table(["file", "sha256"], ([f"`{name}`", f"`{digest}`"] for name, digest in record.files.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _head(record: AdapterRecord) -> str:
    base = record.base
    return (
        f"# Reranker adapter on {base.name}\n\n"
        f"A LoRA adapter (rank {record.trained['settings']['rank']} on every linear layer; pooler and classifier in "
        f"full; float16) that turns {base.name} ({base.layers} layers, hidden {base.hidden}) into a cross-encoder with "
        "one logit. A standard PEFT folder; `exits.safetensors` adds a head on [CLS] after layers "
        f"{', '.join(map(str, record.exits)) or 'none'}."
    )


def _judged(settings: dict[str, Any]) -> str:
    """Who chose the negatives, when it was not the bi-encoder alone."""
    judge = settings.get("judge")
    if judge is None:
        return ""
    return (
        f" {settings['close_share']:.0%} of the negatives are among the {settings['close']} that another reranker "
        f"(JUDGE, manifest sha256 {judge[:12]}) puts highest; most questions that it is sure of were left out."
    )


def _begun(start: dict[str, Any] | None) -> list[str]:
    """What the training went on from."""
    if start is None:
        return []
    chain = [start]
    while before := chain[-1].get("start"):
        chain.append(before)
    stages = " and ".join(f"{each['steps']} steps ({each['minutes']} minutes)" for each in reversed(chain))
    return [f"It went on from an adapter of {stages}, so {len(chain) + 1} commands made it:"]


def _commands(base: str, trained: dict[str, Any], out: str) -> list[str]:
    """The commands that make this adapter, oldest first."""
    settings, start = trained["settings"], trained.get("start")
    data = [name for name in trained["data"] if name not in (*settings["pseudo"], "cloze")]
    words = ["tandem finetune", f"--base {base}", *(f"--data {name}" for name in data)]
    words += [f"--pseudo {name}" for name in settings["pseudo"]] or ["--no-pseudo"]
    words += [f"--{key} {settings[key]:g}" for key in ("minutes", "rate")]
    words += [f"--{key} {settings[key]}" for key in ("seed", "rank", "questions")]
    words += [f"--length {settings['max_length']}", f"--margin {settings.get('margin', 0.1):g}"]
    words += [f"--share {name}={share:g}" for name, share in settings.get("shares", {}).items()]
    words += [f"--whole {name}" for name in settings.get("whole", ())]
    words += ["--judge JUDGE"] if settings.get("judge") else []
    before = f"{out}-BEFORE"
    if mixed := trained.get("mixed"):
        words += [f"--mix {_ancestor(trained, mixed['weights'], out)}", f"--mix-share {mixed['share']:g}"]
    earlier = [] if start is None else _commands(base, start, before)
    return [*earlier, " ".join([*words, *([] if start is None else [f"--start {before}"]), f"--out {out}"])]


def _ancestor(trained: dict[str, Any], weights: str, out: str) -> str:
    """What the commands call the adapter of these weights (sha256): one of those that the training goes back to."""
    while (start := trained.get("start")) is not None:
        out += "-BEFORE"
        if trained["settings"]["start"] == weights:
            return out
        trained = start
    return "MIXED"


def _mixture(trained: dict[str, Any]) -> str:
    mixed = trained.get("mixed")
    if mixed is None:
        return ""
    return (
        f" What was written is {mixed['share']:.0%} of them and {1 - mixed['share']:.0%} of the adapter with the "
        f"weights {mixed['weights'][:12]}."
    )


def _tests(tests: dict[str, Any]) -> list[str]:
    if not tests:
        return []
    quality = (
        [
            name,
            row["questions"],
            *(
                f"{row[metric][order]:.3f}"
                for metric in ("accuracy@1", "ndcg@10")
                for order in ("recall", "rerank", "fused")
            ),
        ]
        for name, row in _rows(tests)
    )
    curve = (
        [
            name,
            point["layer"],
            point["kept"],
            f"{point['ndcg']:.3f}",
            f"{row['ndcg@10']['fused']:.3f}",
            f"{point['compute']:.2f}",
        ]
        for name, row in _rows(tests)
        for point in row["exit_curve"]
    )
    return [
        "## Test sets",
        "Never trained or fitted on. 100 candidates of exact recall over the whole corpus, title and text, in the "
        "precision of the training. `acc` is accuracy@1.",
        _table(
            ["set", "questions", "acc recall", "acc rerank", "acc fused", "nDCG@10 recall", "rerank", "fused"], quality
        ),
        "### Early exits",
        "Only the best by an earlier layer's fused score go on to the last layer; compute is the share of the layers' "
        "work that is left.",
        _table(["set", "layer", "go on", "nDCG@10", "without exit", "compute"], curve),
    ]


def _rows(table: dict[str, dict[str, Any]]) -> Iterable[tuple[str, dict[str, Any]]]:
    return table.items()


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
