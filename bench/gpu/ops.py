"""Each kernel against PyTorch at the sizes of a search: the cases and the clock of `tandem bench kernels`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .floors import rates
from .settings import Settings


def ops(settings: Settings, floors: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    """A row a case: microseconds of ours and of the best rival, and the share of the floor that ours reaches."""
    import torch

    from ..kernel_cases import TINY, WHOLE, cases
    from ..kernel_rivals import Rival
    from ..kernel_timing import each_of, seconds

    device = torch.device(settings.device)
    dtype = torch.float32 if settings.dry else torch.float16
    measured = rates(floors)
    for case in cases(TINY if settings.dry else WHOLE, device, dtype):
        row: dict[str, Any] = {"op": case.name}
        try:
            ours = seconds(Rival(case.ours), device)
        except Exception as error:  # one kernel that fails is a row, and the others are worth their numbers
            yield {**row, "error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
            continue
        row |= {"us": ours * 1e6, "GB/s": case.moved / ours / 1e9, "TFLOP/s": case.flops / ours / 1e12}
        if measured is not None:
            row["share of floor"] = max(case.moved / measured[0], case.flops / measured[1]) / ours
        timed, failed = each_of(case.rivals, device)
        best = min(timed, key=lambda name: timed[name], default=None)
        row["best rival"] = best
        row["rival's us"] = None if best is None else timed[best] * 1e6
        row["times faster"] = None if best is None else timed[best] / ours
        yield {**row, "failed rivals": "; ".join(f"{name}: {why}" for name, why in failed.items()) or None}
