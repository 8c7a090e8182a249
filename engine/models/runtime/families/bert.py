"""BERT: absolute positions, segments, norms behind the halves of a layer, a pooler in front of the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shape import Config, LayerKind, Shape, differing, missing

if TYPE_CHECKING:
    from .backbone import Score
    from .post_norm import PostNorm
    from .weights import Linear, Weights

ROOT = "bert."
NEEDED = (
    "vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "layer_norm_eps",
)  # fmt: skip
WANTED: dict[str, Any] = {
    "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False,
    "pruned_heads": {},
}  # fmt: skip


def shape_of(config: Config) -> Shape | str:
    """See `families.PackedFamily`."""
    if (problem := missing(config, NEEDED) or differing(config, WANTED)) is not None:
        return problem
    return Shape.of(config, config["layer_norm_eps"], (LayerKind(),) * config["num_hidden_layers"])


def backbone(weights: Weights, shape: Shape) -> PostNorm:
    """See `families.PackedFamily`."""
    from .post_norm import Half, PostNorm, PostNormLayer

    def half(first: Linear, behind: str) -> Half:
        return Half(first, weights.linear(f"{behind}.dense"), weights.norm(f"{behind}.LayerNorm"))

    def layer(name: str) -> PostNormLayer:
        qkv = weights.joined([f"{name}.attention.self.{part}" for part in ("query", "key", "value")])
        up = weights.linear(f"{name}.intermediate.dense")
        return PostNormLayer(half(qkv, f"{name}.attention.output"), half(up, f"{name}.output"))

    word, position, segment = (
        weights.take(f"embeddings.{table}_embeddings.weight") for table in ("word", "position", "token_type")
    )
    layers = [layer(f"encoder.layer.{number}") for number in range(len(shape.layers))]
    return PostNorm(shape, (word, position, segment), weights.norm("embeddings.LayerNorm"), layers)


def score(weights: Weights, config: Config) -> Score:
    """See `families.PackedFamily`."""
    from .backbone import Score

    return Score(weights.row("classifier"), "cls", weights.linear("pooler.dense"), "tanh")
