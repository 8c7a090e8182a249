"""Scores of real queries and texts by sentence-transformers itself: what every graph is held against."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..quiet import quiet
from ..source.library import Loaded
from ..source.usage import Usage
from .samples import Samples
from .scoring import Array

BATCH = 4


def reference_scores(loaded: Loaded, usage: Usage, samples: Samples) -> Array:
    """float32 [queries, candidates]: similarities (bi-encoder) or logits (cross-encoder); NaN where the model gave one.

    The library reads the texts with its own tokenizer, prompts and limits, so that what was read off its files is
    proven too; `usage` brings what a caller changed.
    """
    own = loaded.library.max_seq_length
    if own is None or usage.max_length < own:  # a caller's wish, or positions that end earlier than the files say
        loaded.library.max_seq_length = usage.max_length
    with quiet():
        if loaded.kind == "cross-encoder":
            return _logits(loaded.library, usage, samples)
        return _similarities(loaded.library, usage, samples)


def _similarities(library: Any, usage: Usage, samples: Samples) -> Array:
    used = np.unique(samples.candidates)
    unit = usage.similarity == "cosine"

    def encode(door: Any, texts: list[str], prompt: str) -> Array:
        wished = {} if usage.own_prompts else {"prompt": prompt}
        found: Array = door(texts, batch_size=BATCH, normalize_embeddings=unit, **wished)
        return found.astype(np.float32)

    texts = encode(library.encode_document, [samples.texts[row] for row in used], usage.prompts.passage)
    table = encode(library.encode_query, list(samples.queries), usage.prompts.query) @ texts.T
    return np.take_along_axis(table, np.searchsorted(used, samples.candidates), axis=1)


def _logits(library: Any, usage: Usage, samples: Samples) -> Array:
    import torch

    text = usage.pair_text
    prompt = None  # the library's own
    if not usage.own_prompts:
        prompt = usage.prompts.query if text is None else text.instruction or ""
    rows = []
    for query, candidates in zip(samples.queries, samples.candidates, strict=True):
        pairs = [(query, samples.texts[row]) for row in candidates]
        found = library.predict(pairs, prompt=prompt, batch_size=BATCH, activation_fn=torch.nn.Identity())
        rows.append(found if found.ndim == 1 else found[:, 1] - found[:, 0] if found.shape[1] == 2 else found[:, 0])
    return np.stack(rows).astype(np.float32)
