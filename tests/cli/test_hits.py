"""The table of a search: what was found, where, and the words that matched."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.text import Text

from tandem.cli.console import Terminal
from tandem.cli.hits import hits_table
from tandem.cli.matching import MATCH, excerpt, find, stem
from tandem.engine.collection import Place
from tandem.engine.result import Hit

LONG = "Nothing of interest stands here. " * 40 + "The weekly backups are kept for thirty days. " + "Nor here. " * 40


def marked(shown: Text) -> list[str]:
    return [shown.plain[span.start : span.end] for span in shown.spans if span.style == MATCH]


def hit(
    text: str, document: str = "notes.md", title: str = "", chunk: int = 0, relevance: float | None = None
) -> tuple[Hit, Place]:
    identity = f"{document}#{chunk}" if chunk else document
    found = Hit(
        rank=1, id=identity, document=document, text=text, title=title, metadata={}, score=3.25, recall_score=0.5,
        recall_rank=7, rerank_score=None, lexical_score=None, relevance=relevance,
    )  # fmt: skip
    return found, Place(document, chunk, 1023, 2048)


def drawn(*found: tuple[Hit, Place], question: str = "how long are backups kept", width: int = 80, **console) -> str:
    file = io.StringIO()
    hits, places = zip(*found, strict=True)
    Terminal(file=file, width=width, **console).print(hits_table(hits, places, question, width))
    return file.getvalue()


def test_an_excerpt_holds_the_words_that_were_asked_for():
    shown = excerpt(LONG, "how long are backups kept", 100)
    assert marked(shown) == ["backups", "kept"]
    assert shown.plain.startswith("… ")
    assert shown.plain.endswith("…")
    assert cell_len(shown.plain) <= 100


@pytest.mark.parametrize("question", ["the", "zebra", "", "?!", "الاحتفاظ"])
def test_an_excerpt_of_what_matches_nothing_is_the_beginning(question: str):
    assert excerpt("Alpha beta gamma", question, 60).plain == "Alpha beta gamma"


def test_words_match_in_any_case_and_ending_and_not_as_parts():
    words = "Parsing DATES parsed date; dated data sparse update copies bus"
    found = [words[match.start : match.end] for match in find(words, "how do I parse a date and copy")]
    assert found == ["Parsing", "DATES", "parsed", "date", "dated", "copies"]
    assert (stem("string"), stem("glass"), stem("is")) == ("string", "glass", "is")


def test_common_words_are_marked_only_when_nothing_else_is_asked():
    assert marked(excerpt("the cat is on the mat", "where is the cat", 60)) == ["cat"]
    assert marked(excerpt("to be or not to be", "to be", 60)) == ["to", "be", "to", "be"]


def test_chinese_matches_by_the_character_and_arabic_by_the_word():
    assert marked(excerpt("我们保留备份三十天", "备份", 60)) == ["备", "份"]
    assert marked(excerpt("نحتفظ بالنسخ ثلاثين يوما", "ثلاثين", 60)) == ["ثلاثين"]


@pytest.mark.parametrize("text", ["備" * 5000, "e" + "\u0301" * 5000, "\u200d" * 5000, "x" * 5000, " \n\t" * 5000, ""])
@pytest.mark.parametrize("cells", [20, 120])
def test_an_excerpt_never_takes_more_cells_than_there_are(text: str, cells: int):
    shown = excerpt(text, "anything 備", cells)
    assert cell_len(shown.plain) <= cells
    assert len(shown.plain) <= 8 * cells + 4


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("text", [LONG, "備份 " * 400, "שלום עולם " * 200, "\x1b[31m" * 200, "a" * 3000])
def test_no_line_of_the_table_is_wider_than_the_terminal(text: str, width: int):
    shown = drawn(hit(text, document="a/very/long/path/" * 5 + "notes.md", title=text[:200], chunk=3), width=width)
    assert max(cell_len(line) for line in shown.splitlines()) <= width


def test_the_table_names_document_place_title_rank_and_score():
    shown = drawn(hit(LONG, title="Backups", chunk=2), hit("other", document="b.txt", title="b.txt"))
    for said in ("1", "7", "3.25", "notes.md", "part 2, characters 1,024 to 2,048", "Backups", "b.txt"):
        assert said in shown
    assert shown.count("b.txt") == 1, "a title that is the document's name is not said twice"
    assert "\x1b" not in shown, "nothing odd where no terminal looks"


def test_how_likely_a_hit_answers_is_shown_where_it_is_known():
    assert "likely" not in drawn(hit("text"))
    shown = drawn(hit("text", relevance=0.824), hit("other", relevance=0.031))
    assert "likely" in shown
    assert [said in shown for said in ("82%", "3%")] == [True, True]


def test_matches_stand_out_on_a_terminal_and_without_colour():
    coloured = drawn(hit(LONG), force_terminal=True, color_system="standard")
    assert "\x1b[1;33mbackups\x1b[0m" in coloured
    assert "\x1b[1mbackups\x1b[0m" in drawn(hit(LONG), force_terminal=True, color_system="standard", no_color=True)


def test_ids_titles_and_passages_reach_a_terminal_as_text_only():
    evil = "x\x1b]0;owned\x07y\u202ez\nnext [red]w[/red]"
    shown = drawn(
        hit(evil, document=evil, title=f"{evil}!", chunk=1), force_terminal=True, color_system="standard", width=100
    )
    plain = Text.from_ansi(shown).plain
    assert not {"\x1b", "\x07", "\u202e"} & set(plain)
    assert plain.count("␛]0;owned␇y<U+202E>z") == 3
    assert plain.count("[red]w[/red]") == 3
    assert "z␊next" in plain, "an id is shown to the letter"
