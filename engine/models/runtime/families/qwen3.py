"""Qwen3: a decoder, so causal; fewer heads of keys than of queries, each head normed; RMSNorm in front of the halves,
SwiGLU. It is read at its last token; a reranker's one row of scores is `score.weight`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shape import Config, LayerKind, Shape, differing, missing, rope_theta

if TYPE_CHECKING:
    from .backbone import Score
    from .pre_norm import PreNorm
    from .weights import Weights

ROOT = "model."
NEEDED = (
    "vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps",
)  # fmt: skip
WANTED: dict[str, Any] = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False, "is_causal": True,
    "use_bidirectional_attention": False, "partial_rotary_factor": 1,
}  # fmt: skip


def shape_of(config: Config) -> Shape | str:
    """See `families.PackedFamily`."""
    if (problem := missing(config, NEEDED) or differing(config, WANTED)) is not None:
        return problem
    if {*(config.get("layer_types") or ())} - {"full_attention"}:
        return "some of its layers see a window (layer_types)"
    theta = rope_theta(config, "rope_theta", 10_000.0)
    if isinstance(theta, str):
        return theta
    return Shape.of(
        config, config["rms_norm_eps"], (LayerKind(theta),) * config["num_hidden_layers"], causal=True, pre_norm=True,
        kv_heads=config["num_key_value_heads"], head_dim=config["head_dim"],
    )  # fmt: skip


def backbone(weights: Weights, shape: Shape) -> PreNorm:
    """See `families.PackedFamily`."""
    from .pre_norm import PreNorm, PreNormLayer

    def layer(name: str) -> PreNormLayer:
        attention, feed = f"{name}.self_attn", f"{name}.mlp"
        return PreNormLayer(
            norm=weights.take(f"{name}.input_layernorm.weight"),
            qkv=weights.joined([f"{attention}.{part}_proj" for part in "qkv"], bias=False),
            heads_norm=weights.stacked([f"{attention}.{part}_norm.weight" for part in "qk"]),
            read=weights.linear(f"{attention}.o_proj", bias=False),
            wide_norm=weights.take(f"{name}.post_attention_layernorm.weight"),
            up=weights.joined([f"{feed}.gate_proj", f"{feed}.up_proj"], bias=False),
            down=weights.linear(f"{feed}.down_proj", bias=False),
        )

    return PreNorm(
        shape,
        word=weights.take("embed_tokens.weight"),
        embedded=None,
        layers=[layer(f"layers.{number}") for number in range(len(shape.layers))],
        final=weights.take("norm.weight"),
        centred=False,
        activation="silu",
    )


def score(weights: Weights, config: Config) -> Score:
    """See `families.PackedFamily`."""
    from .backbone import Score

    return Score(weights.row("score"), "lasttoken")
