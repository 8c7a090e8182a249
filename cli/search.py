"""tandem search: one question, two stages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer

from ..engine.collection import Place
from ..engine.config import EngineOptions, SearchOptions, SearchSettings
from ..engine.errors import InputError
from ..engine.result import SearchResult
from .console import WIDTH, note, out, print_json, show, waiting
from .hits import counted, hits_table, places_of
from .options import ENCODER, RERANKER, with_options

NAME = "search"
EXAMPLES = (
    'tandem search collection "how long are backups kept"',
    'tandem search collection "oil crisis" --filter "year>=1970" --top-k 3',
)
_OPERATORS = {"=": "$in", "!=": "$nin", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


@with_options(EngineOptions)
@with_options(SearchOptions, leave_out=("filters",))
def command(
    given: dict[str, Any],
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    query: str = typer.Argument(help="What to look for: a question, or some words."),
    filters: list[str] = typer.Option(
        [], "--filter", help="Only passages whose metadata has KEY=VALUE (also != > >= < <=, or a JSON filter); repeat."
    ),
    encoder: Path | None = typer.Option(None, help=ENCODER, envvar="TANDEM_ENCODER"),
    reranker: Path | None = typer.Option(None, help=RERANKER, envvar="TANDEM_RERANKER"),
    json_output: bool = typer.Option(False, "--json", help="The whole result as one JSON line on stdout."),
) -> None:
    """Answer a question from a collection: a table of what was found, the words that matched marked."""
    from ..engine import Engine

    settings = {name: given.pop(name) for name in EngineOptions.model_fields if name in given}
    wanted = {"$and": [parsed_filter(text) for text in filters]} if filters else None
    asked = SearchSettings(**given, filters=wanted).model_dump()  # what is wrong is told before anything is opened
    with waiting("opening the collection and its models"):
        opened = Engine.open(collection, encoder=encoder, reranker=reranker, **settings)
    with opened as engine:
        result = engine.search(query, **asked)
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
    if result.degraded is not None:
        note(f"degraded: {result.degraded}")
    for warning in result.warnings:
        note(f"warning: {warning}")
    if result.truncated:
        note("the query was longer than the models read, and was cut")


def parsed_filter(text: str) -> dict[str, Any]:
    """`year>=2020` or a JSON object as a filter. A value that reads as a number or a boolean is one, and for = and !=
    also the text it is written as: a field may hold digits as text.

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
