"""`tandem serve` as a process to be measured: started, asked whether it is ready, its memory read, ended."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import EngineError
from ..child import Child
from .load_generator import wait_until

_SCRIPT = """
import json, os, sys
os.dup2(2, 1)
from pathlib import Path
from tandem.engine.server import ServerSettings, logs
from tandem.engine.server.run import serve
logs.set_up(30)
path = Path(sys.argv[1])
serve({path.resolve().name: path}, ServerSettings(**json.loads(sys.argv[2])))
"""
HOST = "127.0.0.1"
ENDING_SECONDS = 60.0
"""For the searches that it has begun."""


@dataclass
class ServerProcess:
    """A running server."""

    process: Child
    port: int
    admin_port: int

    def status(self) -> dict[str, Any]:
        """What /admin/status tells."""
        with urllib.request.urlopen(f"http://{HOST}:{self.admin_port}/admin/status", timeout=10) as answer:
            document: dict[str, Any] = json.loads(answer.read())
        return document

    def resident(self) -> dict[str, float]:
        """MB in memory: of the HTTP process and of its workers together, what they share counted once."""
        workers = [each["process"] for each in self.status()["workers"] if each["process"] is not None]
        own = {"http": _resident(self.process.pid)}
        return {**own, "worker": sum(map(_resident, workers))} if workers else own

    def is_ready(self) -> bool:
        """Whether it says so; raises EngineError when it has ended."""
        if not self.process.running():
            raise EngineError(f"the server could not start: {self.process.how_it_ended()}")
        try:
            return bool(self.status()["ready"])
        except OSError:
            return False


@contextmanager
def served(collection: Path, *, seconds: float = 600, **settings: Any) -> Iterator[ServerProcess]:
    """Serve `collection` on two free ports of loopback until the block ends; `seconds` is how long opening may take.

    Raises EngineError when it does not become ready.
    """
    port, admin_port = _free_port(), _free_port()
    chosen = {"port": port, "admin_port": admin_port, "drain_delay_ms": 0, **settings}
    command = [sys.executable, "-c", _SCRIPT, str(collection), json.dumps(chosen)]
    with tempfile.TemporaryFile() as log, Child(command, log, grace=ENDING_SECONDS) as process:
        running = ServerProcess(process, port, admin_port)
        if not wait_until(running.is_ready, seconds):
            raise EngineError(f"the server was not ready within {seconds:.0f} s")
        yield running


def _resident(pid: int) -> float:
    """MB of a process, of pages that n processes have the nth part (its proportional set size)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as bound:
        return int(bound.getsockname()[1])
