"""Whole commands on a real pseudo-terminal: what they send to it, and how they look at different widths."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from tandem.cli.console import log_to_stderr

EVIL = "red \x1b[31m and title \x1b]0;owned\x07 end \x9b2J \u202eback [red]markup[/red] :warning:"
ROWS = [
    {"_id": f"evil\x1b[2J\n{EVIL}", "title": f"a title {EVIL}", "text": f"the kettle {EVIL}", "kind\x1b]": EVIL},
    {"_id": "right-to-left", "title": "\u05e9\u05dc\u05d5\u05dd", "text": "\u05e9\u05dc\u05d5\u05dd the kettle"},
    {"_id": "wide", "title": "日本語のやかん", "text": "やかん kettle " * 60},
]
ALL = ("the kettle", "--budget-ms", "none", "--top-k", "50")
OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Sequences of a console: colours, and the cursor's moves of a bar. A title or a colour of the passage is neither."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    from tandem.engine.build.indexing import index_corpus

    folder = tmp_path_factory.mktemp("terminal")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    index_corpus(
        str(folder / "corpus.jsonl"), folder / "col\x1b[31m", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder
    )
    return folder / "col\x1b[31m"


def on_a_terminal(*arguments: object, columns: int = 80, **environment: str) -> str:
    """What `tandem …` writes to a pseudo-terminal, by stdout and stderr."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", "from tandem.cli import main; main()", *map(str, arguments)]
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    env = {**plain, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env=env):
        os.close(follower)
        written = b""
        try:
            while block := os.read(leader, 65536):
                written += block
        except OSError:  # Linux says so where the other end is closed
            pass
    os.close(leader)
    return written.decode()


@pytest.mark.parametrize("command", [("search",), ("info",), ("verify",), ("search", "--json")])
def test_no_command_sends_foreign_sequences_to_a_terminal(collection: Path, command: tuple[str, ...]):
    query = ALL if "search" in command else ()
    shown = on_a_terminal(command[0], collection, *query, *command[1:])
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\u202e"):
        assert sequence not in shown
    rest = OWN.sub("", shown).replace("\r\n", "\n").replace("\r", "")
    assert "\x1b" not in rest
    if command == ("search",):
        assert "␛]0;owned␇" in rest
        assert "[red]markup[/red] :warning:" in rest


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_search_is_legible_at_any_width(collection: Path, columns: int):
    shown = OWN.sub("", on_a_terminal("search", collection, *ALL, columns=columns)).replace("\r", "")
    table = shown[shown.index("#") : shown.index("\ncpu: ")].splitlines()
    assert "right-to-left" in shown
    assert "日本語のやかん" in shown
    assert max(map(cell_len, table)) <= columns


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_plain_terminal_gets_plain_text(collection: Path, environment: dict[str, str]):
    shown = on_a_terminal("search", collection, *ALL, **environment)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown), "no colour"
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in shown


def test_matches_are_bold_on_a_terminal(collection: Path):
    assert re.search(r"\x1b\[1;33mkettle\x1b\[0m", on_a_terminal("search", collection, *ALL))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_characters_refuses_nothing(collection: Path, encoding: str):
    command = [sys.executable, "-c", "from tandem.cli import main; main()", "search", str(collection), *ALL]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        if more:
            assert json.loads(done.stdout)["hits"][0]["id"]


def test_what_a_library_logs_for_itself_is_not_told(capsys: pytest.CaptureFixture[str]):
    log_to_stderr()
    talkative = logging.getLogger("some.library")
    talkative.setLevel(logging.DEBUG)
    try:
        talkative.debug("chatter")
        talkative.warning("a warning")
        logging.getLogger("tandem.test").warning("ours")
    finally:
        logging.basicConfig(force=True)
        talkative.setLevel(logging.NOTSET)
    said = capsys.readouterr().err
    assert "chatter" not in said
    assert "a warning" in said
    assert "ours" in said
