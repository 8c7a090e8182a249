"""What the card can do: the rates every other number is a share of."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case, Row, Task
from .clock import device_ms
from .settings import Settings

REPEATS = 30
PRODUCT = "product"


def floors(task: Task) -> Iterator[Case]:
    """Rates of a copy (bytes read and written), of one long read, and of a square matrix product."""
    settings = task.settings
    yield Case({"what": "copy"}, lambda: _copy(settings))
    yield Case({"what": "read (sum)"}, lambda: _read(settings))
    yield Case({"what": f"{settings.matmul}³ {PRODUCT}"}, lambda: _product(settings))


def _copy(settings: Settings) -> Iterator[Row]:
    import torch

    source = torch.randn(settings.copy_bytes // 4, device=settings.device)
    target = torch.empty_like(source)
    ms = device_ms(lambda: target.copy_(source), min(settings.repeats, REPEATS), settings.device)
    yield {"ms": ms, "rate": 2 * settings.copy_bytes / ms / 1e9, "unit": "TB/s"}


def _read(settings: Settings) -> Iterator[Row]:
    import torch

    source = torch.randn(settings.copy_bytes // 4, device=settings.device)
    ms = device_ms(source.sum, min(settings.repeats, REPEATS), settings.device)
    yield {"ms": ms, "rate": settings.copy_bytes / ms / 1e9, "unit": "TB/s"}


def _product(settings: Settings) -> Iterator[Row]:
    import torch

    size, dtype = settings.matmul, torch.float32 if settings.dry else torch.float16
    left, right = (torch.randn(size, size, device=settings.device, dtype=dtype) for _ in range(2))
    ms = device_ms(lambda: left @ right, min(settings.repeats, REPEATS), settings.device)
    yield {"ms": ms, "rate": 2 * size**3 / ms / 1e9, "unit": "TFLOP/s"}


def rates(rows: list[Row] | None) -> tuple[float, float] | None:
    """Bytes and floating-point operations a second, of the rows of `floors`; None where one was not measured."""
    by_name = {row["what"].rpartition(" ")[2]: row["rate"] for row in rows or () if row.get("rate")}
    if "copy" not in by_name or PRODUCT not in by_name:
        return None
    return by_name["copy"] * 1e12, by_name[PRODUCT] * 1e12
