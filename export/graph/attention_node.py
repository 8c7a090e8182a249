"""The one node that any family's attention is in a traced graph (see `traced_attention`, which leaves it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from .builder import attributes


@dataclass(frozen=True, slots=True)
class Attention:
    """A `tandem::Attention`: [batch, heads, length, width] of queries, fewer heads of keys and values."""

    node: onnx.NodeProto
    heads: int
    key_heads: int
    width: int
    scale: float
    causal: bool
    window: int
    """Tokens that lie less than so many away are read; 0: all."""

    @classmethod
    def of(cls, node: onnx.NodeProto) -> Attention:
        said: dict[str, Any] = attributes(node)
        return cls(
            node, said["heads"], said["key_heads"], said["width"], said["scale"], bool(said["causal"]), said["window"]
        )
