"""Each kernel against PyTorch at the sizes of a search: `tandem bench kernels` within this run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .clock import device_ms
from .floors import rates
from .settings import Settings


def ops(settings: Settings, floors: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    """A row a case: milliseconds of ours and of the best rival, and the share of the floor that ours reaches."""
    import torch

    from ..kernel_cases import TINY, WHOLE, cases

    dtype = torch.float32 if settings.dry else torch.float16
    repeats = min(settings.repeats, 100)
    measured = rates(floors)
    for case in cases(TINY if settings.dry else WHOLE, torch.device(settings.device), dtype):
        ours = device_ms(case.ours, repeats, settings.device)
        rivals = {name: _rival(call, repeats, settings.device) for name, call in case.rivals.items()}
        timed = {name: value for name, value in rivals.items() if isinstance(value, float)}
        best = min(timed, key=lambda name: timed[name], default=None)
        row: dict[str, Any] = {"op": case.name, "ms": ours, "GB/s": case.moved / ours / 1e6}
        if case.flops:
            row["TFLOP/s"] = case.flops / ours / 1e9
        if measured is not None:
            row["share of floor"] = 1e3 * max(case.moved / measured[0], case.flops / measured[1]) / ours
        row["best rival"] = best
        row["times faster"] = None if best is None else timed[best] / ours
        row["failed rivals"] = "; ".join(f"{name}: {value}" for name, value in rivals.items() if isinstance(value, str))
        yield row


def _rival(call: Any, repeats: int, device: str) -> float | str:
    """Milliseconds, or why it could not run: a rival that is missing is no reason to stop."""
    try:
        return device_ms(call, repeats, device)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
