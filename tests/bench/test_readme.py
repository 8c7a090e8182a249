"""README and docs quote the saved results: a table row is of one row of a report, a figure in a sentence is in one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORTS = ("bench/RESULTS.md", "bench/RESULTS-AVX2.md")
RESULTS_PAGE = "docs/quality-and-speed.md"
OTHERS = ("bench/LOG.md", "export/adapters/minilm-l6-reranker/README.md")
NUMBER = re.compile(r"(?<![\w.-])(?:\d[\d,]*)?\.?\d+(?!\w)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def figures(words: str) -> set[str]:
    """The numbers of a text, without what is code or a link's address: 1,000 as 1000, .85 as 0.85."""
    words = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", words)
    found = (each.replace(",", "") for each in NUMBER.findall(words))
    return {f"0{each}" if each.startswith(".") else each for each in found}


def told(words: str) -> set[str]:
    """The figures that measurements have: small whole ones count layers, cores, milliseconds of a budget."""
    return {number for number in figures(words) if "." in number or len(number) > 2}


def sources_of(words: str) -> list[str]:
    """The files that may hold the figures of a paragraph, or of the table that it introduces: all reports, and what it
    links to."""
    return [*REPORTS, *(name for name in OTHERS if f"{name})" in words)]


def measured(page: str) -> list[str]:
    """A page's paragraphs and tables that tell measurements: all of RESULTS_PAGE, of others the section Measured and
    paragraphs that begin so."""
    words = read(page)
    parts = words.split("\n\n")
    about = words if page == RESULTS_PAGE else words.partition("\n## Measured\n")[2].split("\n## ")[0]
    told_so = [part for part in parts if part.startswith("Measured (")]
    return [part for part in dict.fromkeys([*about.split("\n\n"), *told_so]) if told(part)]


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
PARTS = [(page, part) for page in PAGES for part in measured(page)]
TABLES = [(page, part) for page, part in PARTS if part.startswith("|")]
WORDS = [(page, part) for page, part in PARTS if not part.startswith("|")]


def test_numbers_are_found_as_they_are_written():
    words = "of 1,000 questions .851, 95.2 ms (90.1–97.3), `--sample 800`, [it](a/1.md), v2, AVX-512"
    assert figures(words) == {"1000", "0.851", "95.2", "90.1", "97.3"}
    assert told("0.851, 8 layers, 100 candidates") == {"0.851", "100"}


@pytest.mark.parametrize(("page", "table"), TABLES)
def test_a_row_quotes_one_row_of_a_report(page: str, table: str):
    introduction = read(page).split("\n\n" + table)[0].rpartition("\n\n")[2]
    sources = sources_of(introduction)
    rows = [figures(line) for name in sources for line in read(name).splitlines() if line.startswith("|")]
    for line in table.splitlines()[2:]:
        quoted = figures(line.partition("|")[2].partition("|")[2])  # the first cell is its name, with counts in it
        assert any(quoted <= row for row in rows), f"no row of {' or '.join(sources)} has all figures of {line}"


@pytest.mark.parametrize(("page", "words"), WORDS)
def test_a_figure_in_a_sentence_is_in_a_report(page: str, words: str):
    sources = sources_of(words)
    unknown = told(words) - set().union(*(figures(read(name)) for name in sources))
    assert not unknown, f"{page} says {', '.join(sorted(unknown))}, which is in none of {', '.join(sources)}"
