"""A part of the benchmark in processes of its own: an illegal address, an abort in a library or a hang costs one case.

A process tells what it measures line by line (see `work`), and what was told is kept whatever happens to it. One that
dies, is stuck or has a broken CUDA context is followed by another that goes on behind the case it was at.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .case import Row, Task
from .worker import OVER, Tell

WORKER = (sys.executable, "-m", "tandem.bench.gpu.worker")
PROCESSES = 6
"""Of one part at most: on a machine where every case dies the other parts shall be tried too."""
GRACE_SECONDS = 15.0
"""Past the end a case may finish for so long; then its process is ended."""
ENDING_SECONDS = 5.0
LOOK_SECONDS = 0.2
LAST_LINES = 3
_NOISE = ("Traceback (most", "Thread 0x", "Current thread 0x", "Extension modules:")
# Models are folders here, and a look at the hub would wait for a network that is not there.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def work_apart(task: Task, tell: Tell, *, seconds: float, log: Path, command: Sequence[str] = WORKER) -> None:
    """`work.work` in child processes, whose stderr is added to the file `log`. `command` starts one."""
    end = time.monotonic() + seconds
    done: list[str] = []
    for _ in range(PROCESSES):
        before = len(done)
        child = _Child(task, tell, done, end)
        child.follow(command, log)
        if child.ending is not None and not child.ending.get("broken"):
            return tell(child.ending)
        reason = child.reason if child.ending is None else child.ending["end"]
        if reason is not None:
            tell({"row": {**(child.about or {"case": "before the first"}), "error": reason}})
        if time.monotonic() > end:
            return tell({"end": OVER})
        if len(done) == before:
            return tell({"end": f"nothing further could be begun: {reason or 'the device does not work'}"})
    tell({"end": f"given up after {PROCESSES} processes, each of which ended at a case"})


class _Child:
    """One process: `ending` is what it told last, None when it ended without, and then `reason` says how."""

    def __init__(self, task: Task, tell: Tell, done: list[str], end: float) -> None:
        self.ending: Row | None = None
        self.reason: str | None = None
        self.about: Row | None = None
        """What the case that was begun last is about."""
        self._task, self._tell, self._done, self._end = task, tell, done, end

    def follow(self, command: Sequence[str], log: Path) -> None:
        """Run it to its end, or to ours."""
        with log.open("ab", buffering=0) as errors:
            errors.write(f"--- {self._task.section} ({self._task.turn})\n".encode())
            written = errors.tell()
            with _started([*command], errors) as (process, lines):
                self._order(process)
                self._listen(process, lines)
        if self.ending is None and self.reason is None:
            words = _last_words(log, written)
            self.reason = f"its process {_how(process.returncode)}" + (f": {words}" if words else "")

    def _order(self, process: subprocess.Popen[bytes]) -> None:
        task = self._task
        order = {
            "section": task.section, "turn": task.turn, "settings": asdict(task.settings), "scratch": str(task.scratch),
            "collection": None if task.collection is None else str(task.collection), "floors": task.floors,
            "seconds": self._end - time.monotonic(), "skip": self._done,
        }  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and that is told of
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
        """Until it has told its end, closed its side, died, or is late or silent."""
        heard = time.monotonic()
        while self.ending is None:
            try:
                line = lines.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if process.poll() is not None and lines.empty():
                    return  # something it started keeps its side open
                self.reason = self._overdue(heard)
                if self.reason is not None:
                    return
                continue
            if line is None:
                return
            heard = time.monotonic()
            self._heard(json.loads(line))

    def _heard(self, message: Row) -> None:
        if "begin" in message:
            self._done.append(message["begin"])
            self.about = message["about"]
        elif "row" in message:
            self._tell(message)
        else:
            self.ending = message

    def _overdue(self, heard: float) -> str | None:
        now, silence = time.monotonic(), self._task.settings.case_seconds
        if now > self._end + GRACE_SECONDS:
            return "ended when the minutes given were well over"
        return f"ended as stuck: nothing was heard for {silence:.0f} s" if now > heard + silence else None


@contextmanager
def _started(
    command: list[str], errors: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], queue.Queue[bytes | None]]]:
    """A process and the lines it tells, None at their end; whatever it started is ended with the block."""
    reading, writing = os.pipe()
    try:
        # A session of its own: Ctrl-C is for the parent, and what a child starts can be ended with it.
        process = subprocess.Popen(
            [*command, str(writing)], stdin=subprocess.PIPE, stdout=errors, stderr=errors, pass_fds=[writing],
            start_new_session=True, env={**os.environ, **OFFLINE},
        )  # fmt: skip
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read, args=(reading, lines), daemon=True).start()
    try:
        yield process, lines
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that told its end or closed its side is leaving
            process.wait(LOOK_SECONDS)
    finally:
        _end(process)


def _read(descriptor: int, lines: queue.Queue[bytes | None]) -> None:
    with os.fdopen(descriptor, "rb") as told:
        for line in told:
            if line.endswith(b"\n"):  # not what was cut off by its death
                lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to all it started, SIGKILL to what stays."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs in the driver ends when that lets it go
                process.wait(ENDING_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # compilers that outlived it
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _how(code: int | None) -> str:
    if code is None:
        return "hangs and cannot be ended"
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_words(log: Path, start: int) -> str:
    """The last lines written since `start` that say something: not a traceback's places."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not line[0].isspace() and not line.startswith(_NOISE)]
    return " / ".join(line[:200] for line in said[-LAST_LINES:])
