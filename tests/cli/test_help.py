"""What a beginner reads first, and how a mistake ends."""

from __future__ import annotations

import re
import sys

import pytest

from tandem import cli
from tandem.cli import index, main
from tandem.cli.help import SECTIONS
from tandem.engine import Engine

NAMES = [name for _, names in SECTIONS for name in names]


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tandem", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_commands_stand_in_the_order_one_needs_them(tandem):
    code, out, _ = tandem("--help")
    assert code == 0
    assert re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE) == NAMES
    assert {command.name for command in cli.app.registered_commands} | {"bench"} == set(NAMES)
    assert tandem()[1] == out, "without a command the help is shown too"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bench"])
def test_every_command_has_an_example_and_every_option_its_words(tandem, name: str):
    code, out, _ = tandem(name, "--help")
    assert code == 0
    assert f"Examples:\n    tandem {name}" in out
    options = re.split(r"\n  (?=--)", out.split("Options:")[1].split("Examples:")[0])[1:]
    for option in options:
        assert len(option.split()) > 3, option


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), "error: No such command 'frobnicate'; see tandem --help"),
        (("search",), "; see tandem search --help"),
        (("search", "c", "q", "--frob"), "error: No such option: --frob"),
        (("export", "m", "--as", "cat", "--out", "o"), "cat"),
        (("index", "c", "--encoder", "e", "--out", "o", "--overlap", "many"), "'--overlap'"),
        (("search", "no\x1b[31mwhere", "q"), "no␛[31mwhere is not a folder"),
        (("info", "new\nline"), "new␊line is not a folder"),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr(tandem, arguments: tuple[str, ...], said: str):
    code, out, err = tandem(*arguments)
    assert code in (2, 5)
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("no GPU: ")]
    assert line.startswith("error: ")
    assert said in err
    assert "\x1b" not in err


def test_an_interruption_is_one_line(tandem, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "open", interrupted)
    code, out, err = tandem("search", "collection", "q")
    assert (code, out, err) == (130, "", "interrupted\n")


def test_what_the_system_refuses_names_the_file(tandem, monkeypatch: pytest.MonkeyPatch):
    def refused(*arguments: object, **settings: object) -> None:
        raise PermissionError(13, "Permission denied", "/some\x1b/where")

    monkeypatch.setattr(Engine, "open", refused)
    assert tandem("search", "collection", "q") == (7, "", "error: /some␛/where: Permission denied\n")


def test_what_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["tandem", "search", "collection", "q"])
    monkeypatch.setattr(Engine, "open", lambda *arguments, **settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()


def test_modules_of_commands_name_themselves():
    assert index.NAME == "index"
    assert all(line.startswith("tandem index ") for line in index.EXAMPLES)
