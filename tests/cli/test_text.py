"""Foreign text before it is printed: nothing that a terminal would obey, everything that can be read."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from tandem.cli.console import Terminal, print_json
from tandem.cli.text import escaped, human_bytes, one_line, visible

OBEYED = [
    *map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    "\u2028", "\u2029", "\ud800", "\udc80",
]  # fmt: skip
ATTACK = "a\x1b[31mb\x1b]0;owned\x07c\x9b2Jd\u202ee\u2066f\rg\x08h[red]i[/red]:warning:"


@pytest.mark.parametrize("character", OBEYED, ids=lambda character: f"U+{ord(character):04X}")
def test_what_a_terminal_obeys_is_a_visible_mark(character: str):
    shown = visible(f"a{character}b")
    assert shown[0] + shown[-1] == "ab"
    assert len(shown) > 2
    assert shown[1:-1].isprintable()
    assert one_line(f"a{character}b") == (shown if not character.isspace() else "a b")


def test_the_marks_name_the_character():
    assert visible("\x1b[0m\x7f\x9b\u202e\n") == "␛[0m␡<U+009B><U+202E>␊"
    assert visible("one\ntwo\x1b", lines=True) == "one\ntwo␛"


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語", "مرحبا بالعالم", "שלום", "👩‍👩‍👧 e\u0301", "\u200f\u0627\u0628\u200c"]
)
def test_text_of_every_language_stays_as_it_is(text: str):
    assert visible(text) == text


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_keeps_a_character_that_is_obeyed(text: str):
    assert not set(visible(text)) & set(OBEYED)
    document = escaped(json.dumps(text, ensure_ascii=False))
    assert not set(document) & set(OBEYED)
    assert json.loads(document) == text


def printed(*things: object, width: int = 80) -> str:
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=True, color_system="truecolor", width=width)
    for thing in things:
        console.print(thing)
    return file.getvalue()


def test_a_terminal_obeys_no_text_however_it_comes():
    table = Table(ATTACK, title=Text(ATTACK))
    table.add_row(ATTACK)
    table.add_row(Text(ATTACK))
    for thing in (ATTACK, Text(ATTACK), Text.assemble((ATTACK, "bold")), table):
        shown = printed(thing, width=200)
        assert not set(Text.from_ansi(shown).plain) & (set(OBEYED) - {"\n"})
        for sequence in ("\x1b[31m", "\x1b]", "\x07", "\x9b", "\u202e", "\u2066", "\r", "\x08"):
            assert sequence not in shown
        for shown_text in ("␛[31m", "[red]", ":warning:", "<U+202E>"):
            assert shown_text in shown


def test_json_for_machines_is_the_same_value_and_safe_to_print(capsys: pytest.CaptureFixture[str]):
    print_json({"text": ATTACK, "half": "\udc80", "kept": "日本語 é"})
    line = capsys.readouterr().out
    assert json.loads(line) == {"text": ATTACK, "half": "\udc80", "kept": "日本語 é"}
    assert "日本語 é" in line
    assert not set(line.rstrip("\n")) & set(OBEYED)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (18_868_352, "18.9 MB"),
        (515e6, "515 MB"),
        (7e12, "7.0 TB"),
    ],
)
def test_sizes_as_people_read_them(size: float, said: str):
    assert human_bytes(size) == said
