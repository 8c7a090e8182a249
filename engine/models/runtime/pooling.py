"""Hidden states of a padded batch → one row a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Rows


def mean_pool(hidden: npt.NDArray[Any], mask: npt.NDArray[np.int64]) -> Rows:
    """float32 [n, d]: the mean of `hidden` [n, width, d] over the positions where `mask` [n, width] is 1."""
    weights = mask.astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    pooled: Rows = np.matmul(weights[:, None, :], hidden.astype(np.float32, copy=False))[:, 0, :]
    return pooled
