"""Each kernel against PyTorch at the sizes of a search: the cases and the clock of `tandem bench kernels`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .case import Case, Row, Task
from .roofline import rates

if TYPE_CHECKING:
    from ..kernels.cases import KernelCase, Sizes
    from ..kernels.contestants import Contestant

OURS = "ours"
SCAN = "scan"
IN_GRAPH, ALONE = "in a graph", "alone"
COMPILED = "torch.compile"
"""Of the rivals the one that takes seconds to start: last."""


def kernels(task: Task) -> Iterator[Case]:
    """A row for each op, size and contestant: microseconds, and the share of the floor that it reaches.

    First the scan that a target is about, then all others, last torch.compile of each.
    """
    import torch

    from ..kernels.cases import cases

    device = torch.device(task.settings.device)
    dtype = torch.float32 if task.settings.dry else torch.float16
    seen: set[str] = set()
    for name, sizes, start in _groups(task):
        try:
            for kernel in cases(sizes, device, dtype):
                if kernel.name in seen or not kernel.name.startswith(start):
                    continue
                seen.add(kernel.name)
                for who, rival in _contestants(kernel):
                    if (who == COMPILED) == (task.turn == "last"):
                        about = {"op": kernel.name, "who": who, "called": IN_GRAPH if rival.captured else ALONE}
                        yield Case(about, partial(_timed, kernel, rival, task), task.turn)
        except Exception as error:  # of a case that could not be made: the other groups are worth their numbers
            yield Case({"op": f"the cases of {name}", "who": OURS}, partial(_raise, error), task.turn)


def _contestants(kernel: KernelCase) -> Iterator[tuple[str, Contestant]]:
    """Ours and the rivals; ours called alone too, beside rivals that no graph can hold."""
    from ..kernels.contestants import Contestant

    yield OURS, Contestant(kernel.ours)
    if not all(rival.captured for rival in kernel.rivals.values()):
        yield OURS, Contestant(kernel.ours, captured=False)
    yield from kernel.rivals.items()


def _groups(task: Task) -> Iterator[tuple[str, Sizes, str]]:
    """Name, sizes and the start of the ops' names, of cases that are made one after the other.

    Apart from each other, so that sizes that do not fit cost their own group.
    """
    from ..kernels.cases import TINY, WHOLE

    whole = TINY if task.settings.dry else WHOLE
    scans = [
        (f"{SCAN} {count:,}", replace(TINY, vectors=(count,), models=whole.models), SCAN)
        for count in sorted(whole.vectors, reverse=True)
    ]
    models = [
        (name, replace(whole, vectors=(), models={name: sizes}), "") for name, sizes in whole.models.items()
    ]  # fmt: skip
    yield from {"first": scans[:1], "then": [*models, *scans[1:]], "last": [*models, *scans]}[task.turn]


def _timed(kernel: KernelCase, rival: Contestant, task: Task) -> Iterator[Row]:
    import torch

    from ..kernels.timing import seconds

    took = seconds(rival, torch.device(task.settings.device))
    row: dict[str, Any] = {"us": took * 1e6, "GB/s": kernel.moved / took / 1e9, "TFLOP/s": kernel.flops / took / 1e12}
    if (measured := rates(task.floors)) is not None:
        row["share of floor"] = max(kernel.moved / measured[0], kernel.flops / measured[1]) / took
    yield row


def _raise(error: Exception) -> Iterator[Row]:
    raise error
