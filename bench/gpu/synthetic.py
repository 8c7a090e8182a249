"""Collections that never were on a disk: random vectors and token ids, made on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...engine.text.tokens import Template, TokenBatch, cumulative
from .random_models import MAX_LENGTH, SPECIAL
from .settings import ModelShape, Settings

CLS, SEP = 2, 3
PAIR_SPECIAL = 3
ROWS = 1 << 20


TEMPLATE = Template(parts=((CLS,), (SEP,), (SEP,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
"""BERT's pair."""


def store(passages: int, tokens: int, shape: ModelShape, settings: Settings) -> Any:
    """A `device_store.Store` whose pairs have `tokens` tokens on average, between three and five quarters of it."""
    import torch

    from ...engine.gpu_search.device_store import Store
    from ...kernels.pack import TokenRows

    device = settings.device
    generator = torch.Generator(device).manual_seed(settings.seed)
    vectors = torch.empty(passages, shape.width, dtype=torch.float32 if settings.dry else torch.float16, device=device)
    for start in range(0, passages, ROWS):
        part = vectors[start : start + ROWS]
        random = torch.randn(part.shape, generator=generator, device=device)
        part.copy_(torch.nn.functional.normalize(random, dim=1))
    mean = max(1, tokens - PAIR_SPECIAL - settings.query_tokens)
    lengths = torch.randint(max(1, mean * 3 // 4), mean * 5 // 4 + 1, (passages,), generator=generator, device=device)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    total = int(offsets[-1])
    # The store's type as indexing chooses it: two bytes where the vocabulary fits.
    small = shape.vocabulary <= 2**15
    kind = torch.int16 if small else torch.int32
    ids = torch.randint(len(SPECIAL), shape.vocabulary, (total,), generator=generator, device=device, dtype=kind)
    spread = lengths.float()
    return Store(
        vectors,
        TokenRows(ids.view(torch.uint16) if small else ids, offsets),
        (float(spread.mean()), float(spread.std())),
    )


def queries(count: int, shape: ModelShape, settings: Settings, random: np.random.Generator) -> Any:
    """`gpu_search.queries.Queries` of random words."""
    from ...engine.gpu_search.queries import Queries

    length = settings.query_tokens
    words = random.integers(len(SPECIAL), shape.vocabulary, (count, length)).astype(np.int32)
    framed = np.concatenate(
        [np.full((count, 1), CLS), words, np.full((count, 1), SEP)], axis=1, dtype=np.int32, casting="unsafe"
    )
    return Queries(
        TokenBatch(framed.ravel(), cumulative([length + 2] * count)),
        TokenBatch(words.ravel(), cumulative([length] * count)),
    )


def pairs(count: int, tokens: int, shape: ModelShape, random: np.random.Generator) -> TokenBatch:
    """Pairs as a cross-encoder reads them: `tokens` tokens on average, between three and five quarters of it."""
    lengths = random.integers(max(4, tokens * 3 // 4), min(MAX_LENGTH, tokens * 5 // 4) + 1, count)
    bounds = cumulative(lengths)
    ids = random.integers(len(SPECIAL), shape.vocabulary, int(bounds[-1])).astype(np.int32)
    ids[bounds[:-1]], ids[bounds[1:] - 1] = CLS, SEP
    segments = np.ones(len(ids), dtype=np.uint8)
    for start, length in zip(bounds[:-1], lengths, strict=True):
        segments[start : start + length // 4] = 0
    return TokenBatch(ids, bounds, segments)


def flops(lengths: Any, shape: ModelShape, *, first_only: bool) -> float:
    """Of the matrix products of sequences of `lengths` tokens (see `latency.floor`).

    `first_only`: of the last layer only [CLS] is needed after keys and values.
    """
    n, d, f = np.asarray(lengths, dtype=np.float64), shape.width, shape.wide
    whole = 2 * n * (4 * d * d + 2 * d * f) + 4 * n**2 * d
    last = 2 * n * (2 * d * d) + 4 * n * d + 2 * (2 * d * d + 2 * d * f) if first_only else whole
    return float((whole * (shape.layers - 1) + last).sum())
