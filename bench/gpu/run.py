"""Sections one after the other: what one raises ends that one, and what it had measured until then is kept."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...engine import gpu
from ...engine.errors import DeviceError
from ...engine.files import write_durably
from ..environment import card
from .report import markdown, tabled
from .settings import Settings

log = logging.getLogger(__name__)
Rows = Iterable[dict[str, Any]]


def run(
    settings: Settings,
    out: Path,
    *,
    collection: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure, write `gpu-<card>.md` and `.json` into the folder `out`, and return the document.

    `collection`: one with its own models, for the section `engine`; without it that section says so.
    Raises DeviceError when there is no GPU and this is not a dry run.
    """
    found = gpu.find()
    if not settings.dry and isinstance(found, str):
        raise DeviceError(f"a GPU benchmark needs a GPU, and {found}; --dry-run shows on a CPU that everything runs")
    name = "dry run" if settings.dry or isinstance(found, str) else found.name
    document: dict[str, Any] = {
        "benchmark": "gpu", "dry_run": settings.dry, "environment": {"gpu": name, **card(), **_torch()}, "sections": {},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    base = out / f"gpu-{''.join(c if c.isalnum() else '-' for c in name.lower())}"
    end = time.monotonic() + settings.minutes * 60
    with tempfile.TemporaryDirectory() as scratch:
        for section, rows in _sections(settings, document["sections"], Path(scratch), collection).items():
            progress(section)
            document["sections"][section] = _measured(rows, end)
            _write(base, document)  # after each, so that a run that is cut short leaves what it had
    document["checks_passed"] = _passed(document["sections"]["checks"])
    _write(base, document)
    return tabled(document)


def _sections(
    settings: Settings, done: dict[str, Any], scratch: Path, collection: Path | None
) -> dict[str, Callable[[], Rows]]:
    """What is measured, in order; each imports what it needs when it runs."""

    def floors() -> list[dict[str, Any]] | None:
        rows: list[dict[str, Any]] | None = done.get("floors", {}).get("rows")
        return rows

    def checks() -> Rows:
        from .checks import checks

        return checks(settings, scratch)

    def floor_rates() -> Rows:
        from .floors import floors

        return floors(settings)

    def kernels() -> Rows:
        from .ops import ops

        return ops(settings, floors())

    def latency() -> Rows:
        from .searches import latency

        return latency(settings, floors())

    def throughput() -> Rows:
        from .searches import throughput

        return throughput(settings, floors())

    def engine() -> Rows:
        from .engine import engine

        return engine(settings, collection)

    def rivals() -> Rows:
        from .rivals import rivals

        return rivals(settings, floors(), scratch)

    return {
        "checks": checks, "floors": floor_rates, "kernels": kernels, "latency": latency, "throughput": throughput,
        "engine": engine, "rivals": rivals,
    }  # fmt: skip


def _measured(rows: Callable[[], Rows], end: float) -> dict[str, Any]:
    """A section's rows as far as it got by `end` (time.monotonic), and why it got no further."""
    start = time.monotonic()
    section: dict[str, Any] = {"seconds": 0.0, "error": None, "rows": []}
    try:
        if start > end:
            raise TimeoutError("the minutes given were over; give more with --minutes")
        for row in rows():
            section["rows"].append(row)
            if time.monotonic() > end:
                section["error"] = "stopped when the minutes given were over; give more with --minutes"
                break
    except Exception as error:  # the next section is worth measuring whatever went wrong in this one
        log.exception("a section of the benchmark failed")
        section["error"] = f"{type(error).__name__}: {error}"
    section["seconds"] = round(time.monotonic() - start, 2)
    return section


def _passed(checks: dict[str, Any]) -> bool:
    """Whether no check failed. One that could not run (`passed` None) is no failure, and no proof: its row says so."""
    return not checks["error"] and bool(checks["rows"]) and all(row["passed"] is not False for row in checks["rows"])


def _torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return {"torch": f"missing: {error}"}
    return {"torch": torch.__version__, "cuda": torch.version.cuda}


def _write(base: Path, document: dict[str, Any]) -> None:
    document = tabled(document)
    write_durably(base.with_suffix(".md"), markdown(document).encode())
    write_durably(base.with_suffix(".json"), (json.dumps(document, indent=2) + "\n").encode())
