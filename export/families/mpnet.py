"""MPNet (Song et al. 2020): all-mpnet-base-v2, multi-qa-mpnet. Its relative positions are added to the scores."""

from __future__ import annotations

from typing import Any

from .family import Family

_PADDING = 1
"""MPNet's embeddings count positions from this padding id + 1, whatever the configuration says."""


def _positions(config: Any) -> int:
    return int(config.max_position_embeddings) - _PADDING - 1


FAMILY = Family("MPNet", ("mpnet",), _positions, own_attention=True)
