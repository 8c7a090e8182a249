"""Passage and question vectors of the base bi-encoder, for mining only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertModel

from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import TokenBatch

Vectors = npt.NDArray[np.float16]
TOKENS_A_BATCH = 8192


@torch.inference_mode()
def encode(
    model: BertModel,
    tokenizer: Tokenizer,
    texts: TokenBatch,
    advance: Callable[[int], None] = lambda count: None,
) -> Vectors:
    """float16 [n, hidden]: unit vectors of `texts` (ids without special tokens), mean-pooled as they are served.

    The tokenizer's `max_length` cuts them. Sorted by length, so that a batch is hardly padded; `advance` is told of
    every batch's share of `texts`.
    """
    wrapped = tokenizer.single(texts)
    vectors = np.empty((len(wrapped), model.config.hidden_size), dtype=np.float16)
    order = np.argsort(-wrapped.lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, TOKENS_A_BATCH // int(wrapped.lengths[order[start]]))
        rows = order[start : start + size]
        padded = wrapped.select(rows).pad(model.config.pad_token_id or 0)
        mask = torch.from_numpy(padded.mask)
        states = model(
            input_ids=torch.from_numpy(padded.ids),
            attention_mask=mask,
            token_type_ids=torch.from_numpy(padded.segments),
        ).last_hidden_state.float()
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors[rows] = torch.nn.functional.normalize(pooled).numpy()
        start += size
        advance(len(rows))
    return vectors
