"""What a search found, for people: a table of hits, and a line about how they came about."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ..engine.collection import Collection, Place
from ..engine.result import Hit, SearchResult
from .matching import excerpt
from .text import one_line, visible

NARROW = 60
"""Characters of a line below which a table leaves out what helps least."""
_LINES = 2
"""Of a hit's excerpt."""
_LIKELY = 8
_NUMBERS, _GAPS = 22, 6
"""Cells of the columns before the passage on a terminal that is not narrow, and between them."""


def places_of(collection: Collection, hits: Sequence[Hit]) -> list[Place]:
    """Where each hit was in its document."""
    return collection.places([collection.row_of(hit.id) for hit in hits])


def hits_table(hits: Sequence[Hit], places: Sequence[Place], question: str, width: int) -> Table:
    """One row a hit: its rank, where recall had it, its score, how likely it answers where that is known, and what it
    is: document, title, words that matched."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="dim")
    wide = width >= NARROW
    table.add_column("#", justify="right", no_wrap=True)
    if wide:
        table.add_column("recall", justify="right", no_wrap=True, style="dim")
    likely = any(hit.relevance is not None for hit in hits)
    table.add_column("score", justify="right", no_wrap=True)
    if likely:
        table.add_column("likely", justify="right", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=1)
    room = max(width - (_NUMBERS if wide else _NUMBERS // 2) - (_LIKELY if likely else 0), NARROW // 3)
    for hit, place in zip(hits, places, strict=True):
        recalled = (str(hit.recall_rank),) if wide else ()
        relevance = (percent(hit.relevance),) if likely else ()
        table.add_row(str(hit.rank), *recalled, f"{hit.score:.2f}", *relevance, _found(hit, place, question, room))
    return table


def percent(relevance: float | None) -> str:
    """A probability for people."""
    return "" if relevance is None else f"{relevance:.0%}"


def where(place: Place) -> str:
    """A passage's place in its document, in words; nothing where it is the whole document."""
    return f"part {place.chunk}, characters {place.start + 1:,} to {place.end:,}" if place.chunk else ""


def counted(result: SearchResult) -> str:
    """How many candidates the cross-encoder really read, and how."""
    parts = [f"reranked {result.reranked} of {result.candidates}"]
    if result.finalists < result.reranked:
        parts.append(f"{result.finalists} by all layers")
    if result.reread:
        parts.append(f"{result.reread} again")
    return ", ".join(parts)


def _found(hit: Hit, place: Place, question: str, cells: int) -> Text:
    document, title = visible(hit.document), one_line(hit.title)
    lines = [Text.assemble((document, "bold"), "  ", (where(place), "dim"))]
    lines[0].rstrip()
    if title and title != one_line(hit.document):
        lines.append(Text(title, "italic"))
        lines[-1].truncate(cells, overflow="ellipsis")
    lines.append(excerpt(hit.text, question, _LINES * cells - cells // 8))
    return Text("\n").join(lines)
