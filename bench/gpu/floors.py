"""What the card can do: the rates every other number is a share of."""

from __future__ import annotations

from typing import Any

from .clock import device_ms
from .settings import Settings


def floors(settings: Settings) -> list[dict[str, Any]]:
    """Rates of a copy (bytes read and written), of one long read, and of a square matrix product."""
    import torch

    device, repeats = settings.device, min(settings.repeats, 30)
    dtype = torch.float32 if settings.dry else torch.float16
    copied, read = _streams(settings, repeats)
    size = settings.matmul
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = device_ms(lambda: left @ right, repeats, device)
    return [
        {"what": "copy", "ms": copied, "rate": 2 * settings.copy_bytes / copied / 1e9, "unit": "TB/s"},
        {"what": "read (sum)", "ms": read, "rate": settings.copy_bytes / read / 1e9, "unit": "TB/s"},
        {"what": f"{size}³ product", "ms": product, "rate": 2 * size**3 / product / 1e9, "unit": "TFLOP/s"},
    ]


def _streams(settings: Settings, repeats: int) -> tuple[float, float]:
    """Milliseconds of a copy and of a sum of `copy_bytes`; their memory is free again afterwards."""
    import torch

    source = torch.randn(settings.copy_bytes // 4, device=settings.device)
    target = torch.empty_like(source)
    copied = device_ms(lambda: target.copy_(source), repeats, settings.device)
    return copied, device_ms(source.sum, repeats, settings.device)


def rates(rows: list[dict[str, Any]] | None) -> tuple[float, float] | None:
    """Bytes and floating-point operations a second, of the rows of `floors`; None where they were not measured."""
    if not rows:
        return None
    by_unit = {row["unit"]: row["rate"] * 1e12 for row in rows if not row["what"].startswith("read")}
    return by_unit["TB/s"], by_unit["TFLOP/s"]
