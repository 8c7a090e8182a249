"""Questions that a machine already holds, from made-up files of each kind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tandem.engine.errors import CorpusError
from tandem.export.finetune.data import read_source
from tandem.export.finetune.sources.dictionary import dictionary
from tandem.export.finetune.sources.manual import manual_pages, page
from tandem.export.finetune.sources.packages import package_descriptions
from tandem.export.finetune.sources.sections import info_files, restructured
from tandem.export.finetune.sources.triple import Triple, dataset

LONG = "This text goes on for more than fifteen words, so that it can be told from the others in a list of candidates."
PAGE = rf"""
.\" a comment of the file
.TH STIR 1
.SH NAME
stir \- mix what is in a pot
.SH SYNOPSIS
.B stir
[\fIspoon\fR]
.SH DESCRIPTION
.B stir
moves a \fIspoon\fR.
{LONG}
.SH "Spoons and ladles"
{LONG}
.BR ladle (1)
.SH AUTHOR
{LONG}
"""


def test_a_manual_page_asks_by_its_summary_and_by_its_own_headings() -> None:
    triples = list(page(PAGE, "stir(1)"))
    assert [triple.question for triple in triples] == ["mix what is in a pot", "stir spoons and ladles"]
    assert triples[0].passage == f"stir moves a spoon. {LONG}"
    assert triples[1].passage == f"{LONG} ladle (1)"
    assert {triple.group for triple in triples} == {"stir(1)"}


def test_pages_may_be_compressed_and_links_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "stir.1.gz").write_bytes(gzip.compress(PAGE.encode()))
    (tmp_path / "mix.1.gz").symlink_to(tmp_path / "stir.1.gz")
    (tmp_path / "blend.1").write_text(".so man1/stir.1\n")
    assert [triple.group for triple in manual_pages(tmp_path)] == ["stir(1)"] * 2


def test_mdoc_macros_say_the_summary_too() -> None:
    source = f".Sh NAME\n.Nm stir\n.Nd mix what is in a pot\n.Sh DESCRIPTION\n{LONG}\n"
    assert [triple.question for triple in page(source, "stir(1)")] == ["mix what is in a pot"]


def test_a_package_asks_by_its_summary_once(tmp_path: Path) -> None:
    stanza = f"Package: {{}}\nVersion: 1\nDescription-en: library for stirring\n {LONG}\n .\n More of it.\n\n"
    path = tmp_path / "packages"
    path.write_text(stanza.format("libstir1") + stanza.format("libstir-dev") + "Package: bare\nVersion: 2\n")
    assert list(package_descriptions(path)) == [Triple("library for stirring", f"{LONG} More of it.", "libstir1")]


def test_a_dictionary_is_asked_in_turns_and_its_marks_are_gone(tmp_path: Path) -> None:
    first = f'Ladle \\La"dle\\, n.\n   {{Spoon}} for soup. {LONG}\n   [1913 Webster]\n'
    second = f"Pot, n. {LONG}\n"
    (tmp_path / "words.dict.dz").write_bytes(gzip.compress((first + second).encode()))
    starts = "A", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    size, more = len(first.encode()), len(second.encode())

    def number(value: int) -> str:
        return starts[1][value // 64] + starts[1][value % 64]

    lines = [f"ladle\tA\t{number(size)}", f"ladles\tA\t{number(size)}", f"pot\t{number(size)}\t{number(more)}"]
    (tmp_path / "words.index").write_text("\n".join(["00-database-info\tA\tB", *lines]) + "\n")
    found = list(dictionary(tmp_path / "words.index"))
    assert [triple.question for triple in found] == ["ladle", "pot meaning"]
    assert found[0].passage == f"Ladle , n. Spoon for soup. {LONG}"


def test_headings_of_info_nodes_and_restructured_text_ask(tmp_path: Path) -> None:
    node = f"File: pot.info,  Node: Stirring,  Up: Top\n\n2.1 Stirring slowly\n===================\n\n{LONG}\n\n"
    (tmp_path / "pot.info.gz").write_bytes(gzip.compress(f"head\n\x1f\n{node}* Menu:\n\n* Other::\n".encode()))
    assert list(info_files(tmp_path)) == [Triple("Stirring slowly", LONG, "pot")]
    (tmp_path / "heat.rst").write_text(
        f".. module:: heat\n   :synopsis: heat\n\nWhen to :func:`stir`\n--------------------\n\n{LONG}\n"
    )
    assert list(restructured(tmp_path)) == [Triple("When to stir", LONG, "heat")]


def test_a_data_set_holds_a_passage_and_a_question_once() -> None:
    triples = [Triple("a", LONG, "g"), Triple("b", LONG, "g"), Triple("a", "other", "h")]
    found = dataset("made-up", triples)
    assert [passage.text for passage in found.passages] == [LONG]
    assert [(question.text, question.positives) for question in found.questions] == [("a", (0,)), ("b", (0,))]


def test_a_training_names_them_by_kind_and_path(tmp_path: Path) -> None:
    (tmp_path / "man1").mkdir()
    (tmp_path / "man1" / "stir.1").write_text(PAGE)
    found = read_source(f"man:{tmp_path / 'man1'}", ("train",))
    assert [question.text for question in found.questions] == ["mix what is in a pot", "stir spoons and ladles"]
    assert found.passages[found.questions[0].positives[0]].title == "stir(1)"
    assert "/" not in found.name
    with pytest.raises(CorpusError, match="does not exist; give a folder of manual pages"):
        read_source(f"man:{tmp_path / 'nowhere'}", ("train",))
    (tmp_path / "man1" / "README").write_text("no page")
    assert len(read_source(f"man:{tmp_path / 'man1'}", ("train",)).questions) == 2
    (tmp_path / "broken.index").write_text("word without numbers\n")
    for name in (f"man:{tmp_path / 'man1' / 'stir.1'}", f"packages:{tmp_path}", f"dict:{tmp_path / 'broken.index'}"):
        with pytest.raises(CorpusError, match="cannot be read"):
            read_source(name, ("train",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="has no question with an answer of fifteen words"):
        read_source(f"info:{tmp_path / 'empty'}", ("train",))
