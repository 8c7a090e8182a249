"""tandem models: which models are known to work, and which to take when in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..engine.models.artifact import Kind
from .console import print_json, show

if TYPE_CHECKING:
    from ..export.source.known_models import KnownModel

NAME = "models"
EXAMPLES = ("tandem models", "tandem models --as cross-encoder", "tandem models --json")
HONEST = (
    "The bundled models are proven with their own weights. The others are models of the Hugging Face Hub: their "
    "families are proven here with random weights, and `tandem export` proves each of them again on your machine."
)


def command(
    kind: Kind | None = typer.Option(None, "--as", help="Only the models of one kind: bi-encoder or cross-encoder."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """List models that are known to work: task, size, languages, speed; and say which to take when in doubt."""
    from ..export.source.known_models import KNOWN

    models = [model for model in KNOWN if kind in (None, model.kind)]
    if json_output:
        print_json({"models": [_document(model) for model in models], "proven": HONEST})
    else:
        show(_page(models))


def _document(model: KnownModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "family": model.family,
        "parameters": model.parameters * 1_000_000,
        "max_length": model.max_length,
        "languages": model.languages,
        "speed": model.speed,
        "bundled": model.bundled,
        "pick": model.pick,
        "note": model.note,
    }


def _page(models: list[KnownModel]) -> Group:
    parts: list[Any] = []
    for kind, task in (
        ("bi-encoder", "Bi-encoders: one text to one vector, for indexing and recall"),
        ("cross-encoder", "Cross-encoders: a question with a passage to a score, for reranking"),
    ):
        chosen = [model for model in models if model.kind == kind]
        if chosen:
            parts += [Text(task, "bold"), _table(chosen), Text()]
    parts.append(_advice(models))
    return Group(*parts)


def _table(models: list[KnownModel]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "family", "size", "tokens", "languages", "speed", "note"):
        justify: Literal["left", "right"] = "right" if name in ("size", "tokens") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "note", overflow="fold")
    for model in models:
        size = f"{model.parameters} M"
        table.add_row(model.name, model.family, size, f"{model.max_length:,}", model.languages, model.speed, model.note)
    return table


def _advice(models: list[KnownModel]) -> Text:
    lines = ["In doubt take:"]
    for languages, words in (("English", "for English"), ("many", "for many languages")):
        picked = [model for model in models if model.pick and model.languages == languages]
        lines += [f"  {words}, as {model.kind}: {model.name}" for model in picked]
    bundled = ", ".join(model.name for model in models if model.bundled)
    lines += [
        "size: parameters, in millions; tokens: read at most; speed: on a CPU, by the parameters it computes with.",
        f"No download is needed for {bundled}.",
        "Try a reranker: tandem demo --reranker NAME",
        HONEST,
    ]
    return Text("\n".join(lines))
