"""A part of the benchmark in processes of its own: an illegal address, an abort in a library or a hang costs one case.

A process tells what it measures line by line (see `worker`), and what was told is kept whatever happens to it. One that
dies, is stuck or has a broken CUDA context is followed by another that goes on behind the case it was at.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..child import OFFLINE, Child, ChildEndedError, ChildSilentError
from ..document import Row
from .plan import Task
from .worker import OVER, Tell

WORKER = (sys.executable, "-m", "tandem.bench.gpu.worker")
PROCESSES = 6
"""Of one part at most: on a machine where every case dies the other parts shall be tried too."""
GRACE_SECONDS = 15.0
"""Past the end a case may finish for so long; then its process is ended."""


def work_apart(task: Task, tell: Tell, *, seconds: float, log: Path, command: Sequence[str] = WORKER) -> None:
    """`worker.work` in child processes, whose stderr is added to the file `log`. `command` starts one."""
    end = time.monotonic() + seconds
    done: list[str] = []
    for _ in range(PROCESSES):
        before = len(done)
        about, ending = _follow(task, tell, done, end, log, command)
        if not ending.get("broken"):
            return tell(ending)
        reason = ending["end"]
        if reason is not None:
            tell({"row": {**about, "error": reason}})
        if time.monotonic() > end:
            return tell({"end": OVER})
        if len(done) == before:
            return tell({"end": f"nothing further could be begun: {reason or 'the device does not work'}"})
    tell({"end": f"given up after {PROCESSES} processes, each of which ended at a case"})


def _follow(task: Task, tell: Tell, done: list[str], end: float, log: Path, command: Sequence[str]) -> tuple[Row, Row]:
    """One process, to its end or to ours: what its last case is about, and its last message, `broken` where a case of
    another process can follow."""
    about: Row = {"case": "before the first"}
    with log.open("a+b", buffering=0) as errors:
        errors.write(f"--- {task.section} ({task.turn})\n".encode())
        with Child(command, errors, env={**os.environ, **OFFLINE}) as child:
            child.tell({"task": task.order(), "seconds": end - time.monotonic(), "skip": done})
            while True:
                left = end + GRACE_SECONDS - time.monotonic()
                try:
                    message = child.hear(min(task.settings.case_seconds, max(left, 0.0)))
                except ChildEndedError as ended:
                    return about, {"end": str(ended), "broken": True}
                except ChildSilentError as silent:
                    stuck = f"ended as stuck: {silent}"
                    late = "ended when the minutes given were well over"
                    return about, {"end": stuck if left >= task.settings.case_seconds else late, "broken": True}
                if "begin" in message:
                    done.append(message["begin"])
                    about = message["about"]
                elif "row" in message:
                    tell(message)
                else:
                    return about, message
