"""What the card can do: the rates every other number is a share of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .case import Case, Row, Task

PRODUCT = "product"


def floors(task: Task) -> Iterator[Case]:
    """Rates of a copy (bytes read and written), of one long read, and of a square matrix product."""
    product = f"{task.settings.matmul}³ {PRODUCT}"
    for what, name in (("copy", "copy"), ("read (sum)", "read"), (product, PRODUCT)):
        yield Case({"what": what}, partial(_rate, name, task), "first")


def _rate(name: str, task: Task) -> Iterator[Row]:
    import torch

    from ..kernels.timing import seconds, standards

    settings = task.settings
    standard = standards(torch.device(settings.device), settings.copy_bytes, settings.matmul)[name]()
    took = seconds(standard.run, torch.device(settings.device))
    unit = "TFLOP/s" if name == PRODUCT else "TB/s"
    yield {"ms": took * 1e3, "rate": standard.work / took / 1e12, "unit": unit}


def rates(rows: list[Row] | None) -> tuple[float, float] | None:
    """Bytes and floating-point operations a second, of the rows of `floors`; None where one was not measured."""
    by_name = {row["what"].rpartition(" ")[2]: row["rate"] for row in rows or () if row.get("rate")}
    if "copy" not in by_name or PRODUCT not in by_name:
        return None
    return by_name["copy"] * 1e12, by_name[PRODUCT] * 1e12
