"""The sections and their order; each imports what it needs when it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...engine.errors import InputError
from .case import Case, Task, Turn

Section = Callable[[Task], Iterable[Case]]


def _checks(task: Task) -> Iterable[Case]:
    from .checks import checks

    return checks(task)


def _floors(task: Task) -> Iterable[Case]:
    from .roofline import floors

    return floors(task)


def _kernels(task: Task) -> Iterable[Case]:
    from .kernels import ops

    return ops(task)


def _latency(task: Task) -> Iterable[Case]:
    from .search import latency

    return latency(task)


def _throughput(task: Task) -> Iterable[Case]:
    from .search import throughput

    return throughput(task)


def _engine(task: Task) -> Iterable[Case]:
    from .collection import engine

    return engine(task)


def _rivals(task: Task) -> Iterable[Case]:
    from .rivals import rivals

    return rivals(task)


SECTIONS: dict[str, Section] = {
    "checks": _checks, "floors": _floors, "kernels": _kernels, "latency": _latency, "throughput": _throughput,
    "engine": _engine, "rivals": _rivals,
}  # fmt: skip
# Right before fast; then the rows that targets are about, so that a run that is cut short has them; last what is slow
# to start (torch.compile) or large. FAISS is a part of its own: what it does not like ends its process.
PLAN: tuple[tuple[str, Turn], ...] = (
    ("checks", "first"), ("checks", "then"), ("floors", "first"),
    ("latency", "first"), ("rivals", "first"), ("kernels", "first"),
    ("kernels", "then"), ("latency", "then"), ("throughput", "then"), ("engine", "then"), ("rivals", "then"),
    ("latency", "last"), ("rivals", "last"), ("kernels", "last"),
)  # fmt: skip


def chosen(names: Sequence[str] | None) -> list[str]:
    """The sections named, as a document orders them; all for None. Raises InputError for an unknown one."""
    if names is None:
        return list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise InputError(f"unknown section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]
