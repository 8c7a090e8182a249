"""Sizes of a model, read from its `config.json`, and the settings in there that the packed runtime does not honour.

Both spellings of a file are read: that of transformers 4 (`rope_theta`, `rope_scaling`) and of 5 (`rope_parameters`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
HEAD_WIDTHS = (16, 32, 64, 128)
"""Widths of a head that the attention knows (`kernels.attention.HEAD_DIMS`, which would import PyTorch)."""


@dataclass(frozen=True, slots=True)
class LayerKind:
    """What is a layer's own. theta: of its rotary positions; window: how far it sees. None: neither."""

    theta: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model.

    vocabulary, positions: token ids that have an embedding; tokens of the longest sequence
    width, wide:           of hidden states, and of the feed-forward
    heads, kv_heads, head_dim: of the attention; kv_heads of keys and of values
    pre_norm:              whether the norms stand before the halves of a layer; its feed-forward has a gate then
    first_position:        of a sequence in the table of positions, where the rows before it are padding's (RoBERTa)
    """

    vocabulary: int
    positions: int
    width: int
    wide: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    layers: tuple[LayerKind, ...]
    causal: bool = False
    pre_norm: bool = False
    first_position: int = 0

    @classmethod
    def of(cls, config: Config, eps: float, layers: tuple[LayerKind, ...], **own: Any) -> Shape:
        """With the sizes that every family calls alike, one head of keys to each of queries; `own` are the fields in
        which a family differs."""
        heads, width = config["num_attention_heads"], config["hidden_size"]
        alike = {
            "vocabulary": config["vocab_size"], "positions": config["max_position_embeddings"], "width": width,
            "wide": config["intermediate_size"], "heads": heads, "kv_heads": heads, "head_dim": width // heads,
        }  # fmt: skip
        return cls(**alike | own, eps=eps, layers=layers)

    @property
    def qkv(self) -> int:
        """Width of the fused projection of queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def work(self) -> int:
        """Numbers of a token that are needed for half a layer: the attention's, or the feed-forward's."""
        return max(self.qkv + self.heads * self.head_dim, self.wide * (3 if self.pre_norm else 1))

    @property
    def token_bytes(self) -> int:
        """Bytes that `Buffers` holds for a token in FP16, the sum of a pre-norm model in FP32."""
        return 2 * (self.work + self.width) + (4 if self.pre_norm else 2) * self.width

    @property
    def table_bytes(self) -> int:
        """Bytes of the angles of rotary positions, in FP32."""
        return 4 * self.positions * self.head_dim * len({layer.theta for layer in self.layers} - {None})

    @property
    def problem(self) -> str | None:
        """Why the kernels do not take these sizes, None where they do."""
        if self.head_dim not in HEAD_WIDTHS:
            known = " or ".join(map(str, HEAD_WIDTHS))
            return f"its heads are {self.head_dim} wide, and the attention kernel takes {known}"
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            return f"its {self.heads} heads of queries cannot share {self.kv_heads} of keys"
        return None


def missing(config: Config, names: Iterable[str]) -> str | None:
    """The first of `names` that a config.json does not give, in words; None where it gives all."""
    name = next((name for name in names if config.get(name) is None), None)
    return None if name is None else f"its config.json has no {name}"


def differing(config: Config, wanted: Mapping[str, Any]) -> str | None:
    """The first setting that is there and not as `wanted`, in words; None where there is none."""
    name = next((name for name, value in wanted.items() if config.get(name, value) != value), None)
    return None if name is None else f"its {name} is {config[name]}, and the packed runtime knows {wanted[name]}"


def rope_theta(config: Config, name: str, default: float, kind: str = "") -> float | str:
    """The base of rotary positions, or in words how they are scaled, which the packed runtime does not honour.

    name: of the setting in transformers 4; kind: of the layers in transformers 5, where they differ
    """
    given: dict[str, Any] = dict(config.get("rope_parameters") or {})
    if kind:
        given = dict(given.get(kind) or {})
    given = {**(config.get("rope_scaling") or {}), **given}
    theta = given.pop("rope_theta", None)
    form = given.pop("rope_type", given.pop("type", "default"))
    given.pop("type", None)
    if form != "default" or given:
        return f"its rotary positions are scaled ({', '.join([str(form), *given])})"
    return float(config.get(name) or default) if theta is None else float(theta)
