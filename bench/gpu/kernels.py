"""The cases of `tandem bench kernels`, and the rates that every other number is a share of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..document import Row
from ..roofline import Rates
from .plan import Case, Task

if TYPE_CHECKING:
    from ..kernels.case import KernelCase
    from ..kernels.timing import Standard

COMPILED = "torch.compile"
"""Of a kernel's rivals the one that takes seconds to start: last."""


def floors(task: Task) -> Iterator[Case]:
    """Rates of a copy (bytes read and written), of one long read, and of a square matrix product."""
    import torch

    from ..kernels.timing import standards

    settings = task.settings
    for what, make in standards(torch.device(settings.device), settings.copy_bytes, settings.matmul).items():
        yield Case({"what": what}, partial(_rate, make, task), "first")


def _rate(make: Callable[[], Standard], task: Task) -> Iterator[Row]:
    import torch

    from ..kernels.timing import seconds

    standard = make()
    took = seconds(standard.run, torch.device(task.settings.device))
    yield {"ms": took * 1e3, "rate": standard.work / took / 1e12, "unit": standard.unit}


def rates(rows: Sequence[Row], *, dry: bool) -> Rates | None:
    """The rates in the rows of `floors`; None where one was not measured."""
    by_name = {row["what"]: row["rate"] * 1e12 for row in rows if row.get("rate")}
    if not {"copy", "product"} <= by_name.keys():
        return None
    precision = "fp32" if dry else "fp16"
    return Rates({precision: by_name["product"]}, by_name["copy"], {precision: "PyTorch"})


def kernels(task: Task) -> Iterator[Case]:
    """A row for each op and size, beside its rivals: first the scan that a target is about, then all others, last each
    beside torch.compile."""
    import torch

    from ..kernels.cases import TINY, WHOLE, groups
    from ..kernels.timing import dtype_on

    device, last = torch.device(task.settings.device), task.turn == "last"
    whole = TINY if task.settings.dry else WHOLE
    made = groups(whole, device, dtype_on(device))
    target = f"scan {max(whole.vectors):,}"
    for name in {"first": [target], "then": [name for name in made if name != target], "last": list(made)}[task.turn]:
        try:
            for kernel in made[name]():
                rivals = {who: rival for who, rival in kernel.rivals.items() if (who == COMPILED) == last}
                if rivals or not last:
                    yield Case(
                        {"case": kernel.name}, partial(_measured, replace(kernel, rivals=rivals), task), task.turn
                    )
        except Exception as error:  # of a case that could not be made: the other groups are worth their numbers
            yield Case({"case": f"the cases of {name}"}, partial(_raise, error), task.turn)


def _measured(kernel: KernelCase, task: Task) -> Iterator[Row]:
    import torch

    from ..kernels.benchmark import measured, row_of

    yield row_of(measured(kernel, task.rates, torch.device(task.settings.device)))


def _raise(error: Exception) -> Iterator[Any]:
    raise error
