"""tandem search: one question, two stages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer

from ..engine.collection import Place
from ..engine.errors import InputError
from ..engine.result import SearchResult
from .console import WIDTH, note, out, print_json, show, waiting
from .hits import counted, degraded, hits_table, places_of

NAME = "search"
EXAMPLES = (
    'tandem search collection "how long are backups kept"',
    'tandem search collection "oil crisis" --filter "year>=1970" --top-k 3',
)
_OPERATORS = {"=": "$in", "!=": "$nin", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    query: str = typer.Argument(help="The question."),
    top_k: int = typer.Option(10, help="Hits to show."),
    candidates: int = typer.Option(100, help="Passages that recall hands to the cross-encoder."),
    budget_ms: float = typer.Option(250.0, help="Milliseconds for the whole search; 0: no limit."),
    rerank: bool = typer.Option(True, help="Rerank, or show recall's order."),
    rerank_count: int | None = typer.Option(
        None, min=1, help="Candidates that the cross-encoder reads, those with the best evidence (default: all)."
    ),
    finalists: int | None = typer.Option(
        None, min=0, help="Candidates that all layers of a reranker with an early exit read (default 20; 0: all)."
    ),
    reread: int | None = typer.Option(
        None, min=1, help="Candidates, the best so far, that are read again window by window (default: none)."
    ),
    filters: list[str] = typer.Option(
        [], "--filter", help="Only passages whose metadata has KEY=VALUE (also != > >= < <=, or a JSON filter); repeat."
    ),
    encoder: Path | None = typer.Option(None, help="Where the bi-encoder is now, if it was moved."),
    reranker: Path | None = typer.Option(None, help="Where the cross-encoder is now, if it was moved."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    runtime: str = typer.Option("auto", help="auto, onnx or packed (our kernels; on a GPU)."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    json_output: bool = typer.Option(False, "--json", help="The whole result as one JSON line on stdout."),
) -> None:
    """Answer a question from a collection."""
    from ..engine import Engine

    settings: dict[str, Any] = {"device": device, "runtime": runtime, "threads": threads}
    with waiting("opening the collection and its models"):
        opened = Engine.open(collection, encoder=encoder, reranker=reranker, **settings)
    with opened as engine:
        result = engine.search(
            query, top_k=top_k, candidates=candidates, budget_ms=budget_ms or None, rerank=rerank,
            rerank_count=rerank_count, reread=reread,
            **({} if finalists is None else {"finalists": finalists or None}),
            filters={"$and": [parsed_filter(text) for text in filters]} if filters else None,
        )  # fmt: skip
        places = places_of(engine.collection, result.hits)
    if json_output:
        print_json(_document(result, places))
        return
    if not result.hits:
        note("nothing was found" + ("; no passage passes the filter" if filters else ""))
    else:
        show(hits_table(result.hits, places, query, min(out().width, WIDTH)))
    _tell(result)


def _document(result: SearchResult, places: list[Place]) -> dict[str, Any]:
    """The result as JSON values, each hit with its place in its document."""
    document = result.to_dict()
    for hit, place in zip(document["hits"], places, strict=True):
        hit["place"] = {"chunk": place.chunk, "start": place.start, "end": place.end}
    return document


def _tell(result: SearchResult) -> None:
    """How the hits came about, on stderr."""
    timings = result.timings
    note(
        f"{result.device}: {timings.total:.0f} ms (encode {timings.encode:.1f}, recall {timings.recall:.1f}, "
        f"fetch {timings.fetch:.1f}, queue {timings.queue:.1f}, rerank {timings.rerank:.0f}); {counted(result)}"
    )
    if (why := degraded(result)) is not None:
        note(f"degraded: {why}")
    if result.truncated:
        note("the query was longer than the models read, and was cut")


def parsed_filter(text: str) -> dict[str, Any]:
    """`year>=2020` or a JSON object as a filter. A value that reads as a number or a boolean is one, and for = and !=
    also the text it is written as: a CSV corpus holds texts only.

    Raises InputError.
    """
    if text.lstrip().startswith("{"):
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise InputError(f"--filter {text}: it is not JSON ({error})") from error
        return document
    match = re.fullmatch(r"([^=<>!]+)(!=|>=|<=|=|>|<)(.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"--filter {text}: write KEY=VALUE, KEY!=VALUE, KEY>=VALUE and the like, or a JSON filter")
    name, operator, written = match[1].strip(), match[2], match[3].strip()
    value = _scalar(written)
    if operator in ("=", "!="):
        return {name: {_OPERATORS[operator]: [value] if value == written else [value, written]}}
    return {name: {_OPERATORS[operator]: value}}


def _scalar(written: str) -> bool | int | float | str:
    try:
        value = json.loads(written)
    except ValueError:
        return written
    return value if isinstance(value, bool | int | float | str) else written
