"""Part by part, each in processes of its own, within the minutes given; what was measured is in the files at once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ...engine.errors import DeviceError
from ...engine.platform import cuda_driver
from ...engine.platform.durable_io import storage
from ..document import Document, Row
from ..environment import card
from ..roofline import Rates
from .kernels import rates
from .parts import WORKER, work_apart
from .plan import PLAN, Task, chosen
from .record import RunRecord
from .settings import Settings
from .worker import OVER, work

Do = Callable[..., None]
"""`worker.work`, or the same in other processes."""


def run(
    settings: Settings,
    out: Path,
    *,
    collection: Path | None = None,
    sections: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
    command: Sequence[str] | None = WORKER,
) -> Document:
    """Measure, keep `gpu-<card>.md` and `.json` in the folder `out` up to date, and return the document.

    collection: one with its own models, for the section `engine`; without it that section says so
    sections:   those to measure (None: all); others of a file of the same card and commit stay
    command:    starts the processes that measure (see `parts`); None: all is measured in this one, as a test has it

    Whatever ends it, the files have what was measured until then.
    Raises DeviceError when there is no GPU and this is not a dry run, InputError for an unknown section.
    """
    wanted = chosen(sections)
    name = _card(settings)
    with storage(out):
        out.mkdir(parents=True, exist_ok=True)
    base = out / f"gpu-{''.join(c if c.isalnum() else '-' for c in name.lower())}"
    environment = card()
    # The driver's name for the card; nvidia-smi's line has the driver's version too.
    record = RunRecord(base, dry=settings.dry, environment={**environment, "gpu": name, "driver": environment["gpu"]})
    if record.note is not None:
        progress(record.note)
    log, end = base.with_suffix(".log"), time.monotonic() + settings.minutes * 60

    do: Do = work if command is None else partial(work_apart, log=log, command=command)

    # Without care for what stays: a process that hangs in the driver may still write there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for section, turn in PLAN:
            if section not in wanted:
                continue
            task = Task(section, turn, settings, Path(scratch), collection, _rates(record, settings))
            if time.monotonic() > end:
                record.left_out(section, OVER)
                continue
            progress(f"{section} ({turn})")
            _measure(task, record, end, do, progress)
    return record.document()


def _measure(task: Task, record: RunRecord, end: float, do: Do, progress: Callable[[str], None]) -> None:
    """One part: its rows into the record, and how it ended, however it ended."""
    start = time.monotonic()
    error: str | None = "interrupted"
    record.begin(task.section)

    def tell(message: Row) -> None:
        nonlocal error
        if "row" in message:
            row = _placeless(message["row"], task)
            record.row(task.section, row)
            if "error" in row:
                progress(", ".join(str(value) for value in row.values()))
        elif "end" in message:
            error = message["end"]

    try:
        do(task, tell, seconds=end - start)
    finally:
        record.end(task.section, time.monotonic() - start, error)


def _placeless(row: Row, task: Task) -> Row:
    """Without the folders of models and collection: a saved result must not tell where somebody's files lie."""
    if "error" not in row:
        return row
    error = row["error"].replace(f"{task.scratch}{os.sep}", "")
    if task.collection is not None:
        error = error.replace(str(task.collection), task.collection.name)
    return {**row, "error": error}


def _card(settings: Settings) -> str:
    found = cuda_driver.find()
    if settings.dry:
        return "dry run"
    if isinstance(found, str):
        raise DeviceError(f"a GPU benchmark needs a GPU, and {found}; --dry-run shows on a CPU that everything runs")
    return found.name


def _rates(record: RunRecord, settings: Settings) -> Rates | None:
    return rates(record.sections.get("floors", {}).get("rows", []), dry=settings.dry)
