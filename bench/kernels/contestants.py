"""What PyTorch offers for the work of an op: the other column of `tandem bench kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...kernels.layout import Layout, sequence_of

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Another way to the same result. `captured`: whether a CUDA graph can hold it (nothing waits for the host)."""

    call: Call
    captured: bool = True


def pytorch(
    function: Callable[..., Any], device: torch.device, *args: Any, captured: bool = True
) -> dict[str, Contestant]:
    """`function` as it is and, on a GPU, through torch.compile, which compiles at its first call."""
    rivals = {"pytorch": Contestant(lambda: function(*args), captured)}
    if device.type == "cuda":
        compiled = torch.compile(function, dynamic=False)
        rivals["torch.compile"] = Contestant(lambda: compiled(*args), captured)
    return rivals


@dataclass(frozen=True, slots=True)
class Sight:
    """What `kernels.attention.attention` takes beside its tensors."""

    kv_heads: int
    causal: bool = False
    window: int | None = None

    @property
    def reach(self) -> tuple[int, int]:
        """Keys before and behind its own that a query sees; -1: all."""
        far = -1 if self.window is None else self.window
        return far, 0 if self.causal else far

    def mask(self, width: int, device: torch.device) -> torch.Tensor:
        """bool [width, width]: whether a query (row) sees a key (column)."""
        behind = torch.arange(width, device=device) - torch.arange(width, device=device)[:, None]
        before, after = (width if far < 0 else far for far in self.reach)
        return (behind >= -before) & (behind <= after)


def padded_attention(qkv: torch.Tensor, layout: Layout, width: int, sight: Sight) -> torch.Tensor:
    """`kernels.attention.attention` by padding every sequence to `width` and masking: what packing saves."""
    padded, mask, (sequence, place) = _padded(qkv, layout, width)
    if sight.reach != (-1, -1):
        mask = mask & sight.mask(width, qkv.device)
    kv = sight.kv_heads
    q, k, v = torch.split(padded[:-1].transpose(1, 2), [qkv.shape[1] - 2 * kv, kv, kv], 1)
    shared = q.shape[1] != kv
    read = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=shared).transpose(1, 2)
    read = torch.cat([read, torch.zeros_like(read[:1])])
    return read[sequence, place]


def padded_single_attention(q: torch.Tensor, kv: torch.Tensor, layout: Layout, width: int) -> torch.Tensor:
    """`kernels.attention.single_attention` in the same way: one query a sequence."""
    padded, mask, _ = _padded(kv, layout, width)
    k, v = padded[:-1].transpose(1, 2).chunk(2, 1)
    shared = q.shape[1] != k.shape[1]
    read = torch.nn.functional.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask, enable_gqa=shared)
    return read[:, :, 0]


def _padded(
    rows: torch.Tensor, layout: Layout, width: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """`rows` [capacity, …] as [sequences + 1, width, …], the tail in the last; bool [sequences, 1, 1, width] where a
    token is; and each row's place there."""
    sequence = sequence_of(layout.cu_seqlens, layout.capacity)
    place = torch.arange(layout.capacity, device=rows.device) - layout.cu_seqlens[sequence]
    place = place.clamp(max=width - 1)
    padded = rows.new_zeros(layout.sequences + 1, width, *rows.shape[1:])
    padded[sequence, place] = rows
    lengths = torch.diff(layout.cu_seqlens)
    mask = torch.arange(width, device=rows.device) < lengths[:, None].clamp(min=1)
    return padded, mask[:, None, None], (sequence, place)


def varlen(qkv: torch.Tensor, where: Layout, longest: int, sight: Sight) -> Contestant:
    """PyTorch's attention over packed sequences; it fails when it is called where PyTorch has none."""
    # Its sequences must cover the buffer, so the tail is one more.
    ends = torch.cat([where.cu_seqlens, where.cu_seqlens.new_tensor([where.capacity])])
    longest = max(longest, where.capacity - int(where.cu_seqlens[-1]))
    kv = sight.kv_heads
    q, k, v = (part.contiguous() for part in torch.split(qkv, [qkv.shape[1] - 2 * kv, kv, kv], 1))

    def call() -> Any:
        from torch.nn.attention.varlen import varlen_attn

        shared = q.shape[1] != kv
        return varlen_attn(q, k, v, ends, ends, longest, longest, window_size=sight.reach, enable_gqa=shared)

    return Contestant(call)
