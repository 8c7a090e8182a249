"""One part of the benchmark, case by case: what a child process does for `parts`, and a dry run in its own.

Told, one after the other: `begin` with what a case is about, its `row`s, and at the end `end` with an error or None. A
case that raises is a row with its error. After each the device is asked whether it still works: a CUDA context that is
broken stays so, and `broken` asks for the rest to be done in another process.

    python -m tandem.bench.gpu.worker    an order as a line of JSON on stdin, what is told as such lines on stdout
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from ..document import Row, said
from ..rivals.children.protocol import answer, answers
from .device import used, works
from .plan import Case, Task, cases
from .settings import Settings

log = logging.getLogger(__name__)
Tell = Callable[[Row], None]
OVER = "stopped when the minutes given were over; give more with --minutes"


def work(task: Task, tell: Tell, *, seconds: float, skip: Collection[str] = ()) -> None:
    """Run the cases of `task` but those labelled as in `skip`; after `seconds` no further one is begun."""
    end = time.monotonic() + seconds
    try:
        for case in cases(task):
            if case.label in skip:
                continue
            if time.monotonic() > end:
                return tell({"end": OVER})
            tell({"begin": case.label, "about": case.about})
            fine = _run(case, task.settings, tell)
            if not works(task.settings):
                if fine:
                    tell({"row": {**case.about, "error": "the device stopped working after this"}})
                return tell({"end": None, "broken": True})
    except Exception as error:  # of what comes before a case: the next part is worth measuring all the same
        log.exception("a section of the benchmark failed")
        return tell({"end": said(error), "broken": not works(task.settings)})
    tell({"end": None})


def _run(case: Case, settings: Settings, tell: Tell) -> bool:
    """Tell a case's rows; whether none has an error."""
    fine = True
    try:
        for row in case.run():
            # Asked while the case still holds what it measured.
            tell({"row": {**case.about, **row, **used(settings)}})
            fine = fine and "error" not in row
    except Exception as error:  # a rival that is missing, memory that does not suffice: a row, and the others follow
        log.exception("%s failed", case.label)
        tell({"row": {**case.about, "error": said(error)}})
        return False
    return fine


def main() -> None:
    """Do the one order that stdin gives, and end with whoever gave it."""
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING)
    told = answers()
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(Task.of(order["task"]), lambda row: answer(told, row), seconds=order["seconds"], skip=order["skip"])
    # Not sys.exit: what libraries do when they are unloaded with a GPU open is no longer of interest, and takes time.
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
