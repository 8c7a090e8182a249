"""The workloads of `tandem bench kernels`: each op at the sizes of a search, beside what PyTorch offers for it.

Sizes are MiniLM-L6's (384 wide, 12 heads of 32, feed-forward 1536) and BERT-base's (768, 12 of 64, 3072), and those of
`pre_norm_cases`, with 100 candidates of 128 tokens on average: lengths are spread evenly between half and one and a
half times that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ...engine.text.tokens import Template
from ...kernels import add_norm, embed_norm, linear_gelu, pack, pool, scan, topk
from ...kernels.layout import Layout, empty_layout, layout
from ...kernels.layout import reference as layout_reference
from .attention_cases import attention_cases
from .case import EPS, KernelCase, Random
from .contestants import Contestant, Sight, pytorch
from .pre_norm_cases import MODERNBERT, QWEN3, TINY_CAUSAL, TINY_WINDOWS, PreNormSizes, pre_norm_cases

TEMPLATE = Template(parts=((101,), (102,), (102,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
"""BERT's pair: [CLS] query [SEP] passage [SEP]."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large: `whole` on a GPU, `tiny` to see on a CPU that everything runs."""

    candidates: int
    tokens: int
    stored: int
    vectors: tuple[int, ...]
    models: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Name → hidden size, heads, feed-forward size."""
    pre_norm: dict[str, PreNormSizes] = field(default_factory=dict)


WHOLE = Sizes(
    100, 128, 100_000, (1_000_000, 10_000_000), {"L6": (384, 12, 1536), "base": (768, 12, 3072)},
    {"ModernBERT": MODERNBERT, "Qwen3": QWEN3},
)  # fmt: skip
TINY = Sizes(4, 24, 50, (3000,), {"tiny": (64, 2, 128)}, {"windows": TINY_WINDOWS, "causal": TINY_CAUSAL})


def groups(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Iterator[KernelCase]]]:
    """The cases by what they share: sizes that do not fit cost their own group.

    A case is made when it is reached; who has let go of the one before has its memory free. On `meta` the tensors have
    shapes and no values, which is enough to record the launches.
    """
    random = partial(torch.randn, device=device, dtype=dtype)
    return {
        "pairs": partial(_pairs, sizes, device),
        **{name: partial(_model, name, sizes, device, random) for name in sizes.models},
        **{name: partial(_pre_norm_model, name, sizes, device, random) for name in sizes.pre_norm},
        **{f"scan {count:,}": partial(_scans, count, sizes, device) for count in sizes.vectors},
    }


def cases(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Iterator[KernelCase]:
    """Every case of every group."""
    for group in groups(sizes, device, dtype).values():
        yield from group()


def _lengths(sizes: Sizes) -> torch.Tensor:
    """int64 [candidates]: whole pairs' lengths, of mean `tokens`."""
    spread = torch.linspace(0.5, 1.5, sizes.candidates)
    order = torch.randperm(sizes.candidates, generator=torch.Generator().manual_seed(0))
    return (spread[order] * sizes.tokens).long()


def _layout(sizes: Sizes, device: torch.device) -> Layout:
    lengths = _lengths(sizes)
    capacity = -(-int(lengths.sum()) // 64) * 64
    if device.type == "meta":
        return empty_layout(len(lengths), capacity, device)
    # By the reference: a layout kernel that fails ends its own case and not all.
    return layout_reference(torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int().to(device), capacity)


def _pairs(sizes: Sizes, device: torch.device) -> Iterator[KernelCase]:
    """What a search does whatever its models are: pairs joined and laid out, the best taken."""
    lengths = torch.full((sizes.stored,), sizes.tokens - 15)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(device)
    store = pack.TokenRows(torch.randint(0, 30_000, (int(lengths.sum()),)).to(torch.uint16).to(device), offsets)
    queries = pack.TokenRows(torch.arange(12, dtype=torch.int32, device=device), torch.tensor([0, 12], device=device))
    rows = torch.randint(0, sizes.stored, (sizes.candidates,), device=device)
    owners = torch.zeros(sizes.candidates, dtype=torch.int32, device=device)
    capacity = sizes.candidates * sizes.tokens
    joined = pack.empty_pairs(sizes.candidates, capacity, device)
    args = (queries, store, rows, owners, pack.PairForm.of(TEMPLATE, 512, device), capacity)
    # Ids read and written, segment and position written: 2 + 4 + 1 + 4 bytes a token.
    yield KernelCase(
        f"pack {sizes.candidates} × {sizes.tokens}",
        lambda: pack.pack(*args, out=joined),
        {"pytorch": Contestant(lambda: pack.reference(*args), captured=False)},
        moved=11 * capacity,
    )
    where = _layout(sizes, device)
    filled = empty_layout(where.sequences, where.capacity, where.cu_seqlens.device)
    yield KernelCase(
        f"layout {where.sequences} sequences",
        lambda: layout(where.cu_seqlens, where.capacity, out=filled),
        {"pytorch": Contestant(lambda: layout_reference(where.cu_seqlens, where.capacity), captured=False)},
        moved=filled.positions.nbytes + filled.blocks.nbytes,
    )
    logits, recall = torch.randn(2, 1, sizes.candidates, device=device)
    k = min(10, sizes.candidates)
    best = (logits.new_empty(1, k), logits.new_empty(1, k, dtype=torch.int32))
    yield KernelCase(
        f"topk {k} of {sizes.candidates}",
        lambda: topk.topk(logits, recall, 5.0, k, out=best),
        pytorch(topk.reference, device, logits, recall, 5.0, k, captured=False),
        moved=2 * logits.nbytes,
    )


def _model(model: str, sizes: Sizes, device: torch.device, random: Random) -> Iterator[KernelCase]:
    """The operations of a layer, and those around all layers."""
    where, (width, heads, wide) = _layout(sizes, device), sizes.models[model]
    yield _embed_norm(model, where, width, device, random)
    yield from attention_cases(model, where, heads, width // heads, Sight(heads), device, random)
    yield _add_norm(model, where.capacity, width, device, random)
    for rows in (where.capacity, where.sequences):
        yield _linear_gelu(model, rows, width, wide, device, random)
    yield _pool(model, where, width, device, random)


def _pre_norm_model(model: str, sizes: Sizes, device: torch.device, random: Random) -> Iterator[KernelCase]:
    """The same of a model whose norms stand in front."""
    yield from pre_norm_cases(model, sizes.pre_norm[model], _layout(sizes, device), device, random)


def _embed_norm(model: str, where: Layout, width: int, device: torch.device, random: Random) -> KernelCase:
    tokens = where.capacity
    ids = torch.randint(0, 30_000, (tokens,), dtype=torch.int32, device=device)
    segments = torch.zeros(tokens, dtype=torch.uint8, device=device)
    word, position, segment = (random(rows, width) for rows in (30_000, 512, 2))
    args = (ids, where.positions, segments, word, position, segment, random(width), random(width), EPS)
    out = random(tokens, width)
    return KernelCase(
        f"embed_norm {model}",
        lambda: embed_norm.embed_norm(*args, out=out),
        pytorch(embed_norm.reference, device, *args),
        moved=2 * out.nbytes,
    )


def _add_norm(model: str, rows: int, width: int, device: torch.device, random: Random) -> KernelCase:
    x, residual, out = (random(rows, width) for _ in range(3))
    args = (x, residual, random(width), random(width), random(width), EPS)
    return KernelCase(
        f"add_norm {model}",
        lambda: add_norm.add_norm(*args, out=out),
        pytorch(add_norm.reference, device, *args),
        moved=3 * x.nbytes,
    )


def _linear_gelu(model: str, rows: int, width: int, wide: int, device: torch.device, random: Random) -> KernelCase:
    x, weight, bias, out = random(rows, width), random(wide, width), random(wide), random(rows, wide)
    return KernelCase(
        f"linear_gelu {model} {rows} rows",
        lambda: linear_gelu.linear_gelu(x, weight, bias, out=out),
        pytorch(linear_gelu.reference, device, x, weight, bias),
        moved=x.nbytes + weight.nbytes + out.nbytes,
        flops=2 * rows * width * wide,
    )


def _pool(model: str, where: Layout, width: int, device: torch.device, random: Random) -> KernelCase:
    hidden, out = random(where.capacity, width), torch.randn(where.sequences, width, device=device)
    return KernelCase(
        f"pool {model}",
        lambda: pool.pool(hidden, where.cu_seqlens, normalize=True, out=out),
        pytorch(partial(pool.reference, normalize=True), device, hidden, where.cu_seqlens),
        moved=hidden.nbytes + out.nbytes,
    )


def _scans(n: int, sizes: Sizes, device: torch.device) -> Iterator[KernelCase]:
    def plain(asked: torch.Tensor, vectors: torch.Tensor) -> Any:
        return (asked @ vectors.T).float().topk(k, dim=1)

    width, k = min(sizes.models.values())[0], min(100, n)
    vectors = torch.nn.functional.normalize(torch.randn(n, width, device=device, dtype=torch.float16))
    for queries in (1, 16, 64):
        asked, scratch = vectors[:queries].clone(), scan.workspace(n, queries, k, device)
        out = scan.empty_result(queries, k, device)
        yield KernelCase(
            f"scan {n:,} × {width}, {queries} queries",
            partial(scan.scan, vectors, asked, k, scratch=scratch, out=out),
            pytorch(plain, device, asked, vectors),
            moved=vectors.nbytes,
            flops=2 * n * width * queries,
        )
