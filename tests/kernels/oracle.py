"""How a result in reduced precision is judged: against float64, by the error that plain PyTorch makes."""

from __future__ import annotations

import torch


def assert_as_good(ours: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor, *, atol: float = 1e-6) -> None:
    """Our largest error is at most twice that of PyTorch in the working dtype (`plain`), plus `atol`.

    exact: float64. Adapts to dtype and shape, unlike tolerances picked by hand.
    """
    assert ours.dtype == plain.dtype
    assert ours.shape == exact.shape
    assert torch.isfinite(ours).all()
    error = (ours.double() - exact).abs()
    allowed = 2 * (plain.double() - exact).abs().max().item() + atol
    worst = int(error.argmax())
    assert error.max().item() <= allowed, (
        f"error {error.max().item():.3g} > {allowed:.3g} at {worst}: "
        f"{ours.flatten()[worst].item()} for {exact.flatten()[worst].item()}"
    )


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: torch.device) -> torch.Tensor:
    """Standard normal numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).to(device)
