"""The pages of README and docs as blocks of commands, and a folder in which they run."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- (make docs|not run): ([^>]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: `mark` is the comment's verb or None, `line` where it begins."""

    page: Path
    line: int
    mark: str | None
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"

    @property
    def commands(self) -> list[str]:
        """Of a shell block: its commands, continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    words = page.read_text(encoding="utf-8")
    return [
        Block(page, words.count("\n", 0, found.start(4)), found[1], found[3], found[4])
        for found in BLOCK.finditer(words)
    ]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_line() -> Any:
    """The `tandem` command with its sub-commands, as typer made it."""
    import typer

    from tandem.cli import app

    return typer.main.get_command(app)


def options(command: Any) -> Iterator[str]:
    """Every option of a command and its sub-commands."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for each in getattr(command, "commands", {}).values():
        yield from options(each)


def parsed(command: str) -> None:
    """Fail unless `command` names things that exist: a command of ours with its options, a make target, an extra."""
    words = shlex.split(command, comments=True)
    if Path(words[0]).name == "tandem":
        found = command_line()
        words.pop(0)
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        found.make_context(found.name, words)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), command
    elif "pip" in words[:3]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = {name for extras in re.findall(r"\[([\w,]+)\]", command) for name in extras.split(",")}
        assert asked <= set(project["optional-dependencies"]), command


class World:
    """Runs the blocks of one page in the current folder; what `tandem serve` starts lives until `close`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._names: dict[str, Any] = {}
        self._variables: list[str] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._ports = {"8080": free_port(), "9000": free_port()}

    def run(self, block: Block) -> None:
        match block.language:
            case "python":
                exec(compile(block.text, str(block), "exec"), self._names)
            case "sh":
                for command in block.commands:
                    self._command(command, str(block))
            case "json":
                json.loads(block.text)
            case "toml":
                from tandem.engine.server.settings import ServerSettings

                Path("tandem.toml").write_text(block.text, encoding="utf-8")
                ServerSettings.load(Path("tandem.toml"))

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(60)

    def _command(self, command: str, where: str) -> None:
        words = shlex.split(command, comments=True)
        if words[:2] == ["tandem", "serve"]:
            self._serve(words[1:])
        elif Path(words[0]).name == "tandem":
            self._tandem([str(Path(word).expanduser()) if word.startswith("~") else word for word in words], where)
        elif words[0] in ("make", "pip"):
            parsed(command)
        elif re.match(r"\w+=", command):
            self._variables.append(self._here(command))
        else:
            quiet = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }'
            script = "\n".join([quiet, *self._variables, self._here(command)])
            done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{where}: {command}\n{done.stdout}{done.stderr}"

    def _here(self, command: str) -> str:
        for port, free in self._ports.items():
            command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        return command

    def _tandem(self, words: list[str], where: str) -> None:
        from tandem.cli import main

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            try:
                main()
            except SystemExit as end:
                assert not end.code, f"{where}: {shlex.join(words)}\n{self._capsys.readouterr().err}"  # noqa: PT017

    def _serve(self, words: list[str]) -> None:
        self.close()
        program = "from tandem.cli import main; main()"
        ports = {"TANDEM_PORT": self._ports["8080"], "TANDEM_ADMIN_PORT": self._ports["9000"]}
        environment = {**os.environ, **ports, "TANDEM_DRAIN_DELAY_MS": "0"}
        log = Path("server.log")
        with log.open("wb") as file:
            self._server = subprocess.Popen([sys.executable, "-c", program, *words], env=environment, stderr=file)
        for _ in range(600):
            assert self._server.poll() is None, log.read_text(encoding="utf-8")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['9000']}/readyz"):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"`tandem {shlex.join(words)}` was not ready in a minute")


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
