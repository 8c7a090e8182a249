"""A child process that speaks JSON, an object a line, with a watchdog: the one way in which a benchmark starts another.

It is told on stdin and tells on stdout. What it was measured with may abort, hang in a driver or start compilers that
outlive it, so each is watched for silence, and is ended with everything it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Message = dict[str, Any]
ENDING_SECONDS = 5.0
LOOK_SECONDS = 0.2
LAST_LINES = 3
LAST_BYTES = 2**16
_NOISE = ("Traceback (most", "Thread 0x", "Current thread 0x", "Extension modules:")
# Models are folders here, and a look at the hub would wait for a network that is not there.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class ChildSilentError(Exception):
    """It told nothing for as long as it may; it still runs."""


class ChildEndedError(Exception):
    """It tells nothing more; the message says how it ended and what it wrote last."""


class Child:
    """A running child. Use it in a `with` block, which ends it and whatever it started."""

    def __init__(
        self,
        command: Sequence[str],
        errors: IO[bytes],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace: float = ENDING_SECONDS,
    ) -> None:
        """Start `command`, with its stderr at the end of the file `errors`, which can be read.

        grace: seconds between SIGTERM and SIGKILL
        """
        self._errors, self._written = errors, os.fstat(errors.fileno()).st_size
        self._grace = grace
        # A session of its own: Ctrl-C is for the parent, and what a child starts can be ended with it.
        self._process = subprocess.Popen(
            [*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=cwd,
            start_new_session=True,
        )  # fmt: skip
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._orders: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def tell(self, message: Message) -> None:
        """Send a message without waiting for the child to read it; whether it does, `hear` finds out."""
        self._orders.put(json.dumps(message).encode() + b"\n")

    def hear(self, seconds: float) -> Message:
        """What it tells next. Raises ChildSilentError after `seconds` without a word, ChildEndedError at its end."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
            except queue.Empty:
                if not self.running() and self._lines.empty():
                    line = None  # something it started keeps its side open
                elif time.monotonic() >= until:
                    raise ChildSilentError(f"nothing was heard for {seconds:.0f} s") from None
                else:
                    continue
            if line is None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # one that closed its side is leaving
                    self._process.wait(LOOK_SECONDS)
                self.end()
                raise ChildEndedError(self.how_it_ended())
            message: Message = json.loads(line)
            return message

    def how_it_ended(self) -> str:
        """Its exit status or signal, and the last lines it wrote that say something: not a traceback's places."""
        size = os.fstat(self._errors.fileno()).st_size
        start = max(self._written, size - LAST_BYTES)
        lines = os.pread(self._errors.fileno(), size - start, start).decode(errors="replace").splitlines()
        said = [line for line in lines if line.strip() and not line[0].isspace() and not line.startswith(_NOISE)]
        words = " / ".join(line[:200] for line in said[-LAST_LINES:])
        return f"its process {_how(self._process.returncode)}" + (f": {words}" if words else "")

    def end(self) -> None:
        """SIGTERM to it and all it started, SIGKILL to what stays."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.running():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):  # in the driver: it ends when that lets it go
                    self._process.wait(self._grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # compilers that outlived it
        self._orders.put(None)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as orders:  # one that died does not read
            while (order := self._orders.get()) is not None:
                orders.write(order)
                orders.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as told:
            for line in told:
                if line.endswith(b"\n"):  # not what was cut off by its death
                    self._lines.put(line)
        self._lines.put(None)


def _how(code: int | None) -> str:
    if code is None:
        return "hangs and cannot be ended"
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
