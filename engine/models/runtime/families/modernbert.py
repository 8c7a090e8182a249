"""ModernBERT: rotary positions, windows in most layers, norms without bias in front of the halves, GeGLU."""

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
    "num_attention_heads", "norm_eps", "local_attention",
)  # fmt: skip
WANTED: dict[str, Any] = {
    "hidden_activation": "gelu", "norm_bias": False, "attention_bias": False, "mlp_bias": False,
    "classifier_activation": "gelu", "classifier_bias": False, "is_decoder": False, "partial_rotary_factor": 1,
}  # fmt: skip
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def shape_of(config: Config) -> Shape | str:
    """See `families.PackedFamily`."""
    if (problem := missing(config, NEEDED) or differing(config, WANTED)) is not None:
        return problem
    kinds = _kinds(config)
    if len(kinds) != config["num_hidden_layers"] or not {*kinds} <= {GLOBAL, LOCAL}:
        return f"its layer_types are not {GLOBAL} or {LOCAL} for each of {config['num_hidden_layers']} layers"
    if config.get("classifier_pooling", "cls") not in ("cls", "mean"):
        return f"its classifier_pooling is {config['classifier_pooling']}, and the packed runtime knows cls and mean"
    far = rope_theta(config, "global_rope_theta", 160_000.0, GLOBAL)
    if isinstance(far, str):
        return far
    # Transformers 4 takes a local base of null for the global one.
    nulled = "local_rope_theta" in config and config["local_rope_theta"] is None
    near = rope_theta(config, "local_rope_theta", far if nulled else 10_000.0, LOCAL)
    if isinstance(near, str):
        return near
    each = {GLOBAL: LayerKind(far), LOCAL: LayerKind(near, config["local_attention"] // 2)}
    return Shape.of(config, config["norm_eps"], tuple(each[kind] for kind in kinds), pre_norm=True)


def _kinds(config: Config) -> list[str]:
    """A layer's kind as transformers 5 lists it, or from transformers 4's count."""
    if config.get("layer_types") is not None:
        return list(config["layer_types"])
    every: int = config.get("global_attn_every_n_layers", 3)
    return [LOCAL if number % every else GLOBAL for number in range(config["num_hidden_layers"])]


def backbone(weights: Weights, shape: Shape) -> PreNorm:
    """See `families.PackedFamily`."""
    from .pre_norm import PreNorm, PreNormLayer

    def layer(number: int) -> PreNormLayer:
        name = f"layers.{number}"
        return PreNormLayer(
            # What the embeddings' norm gives is normed already.
            norm=weights.take(f"{name}.attn_norm.weight") if number else None,
            qkv=weights.linear(f"{name}.attn.Wqkv", bias=False),
            heads_norm=None,
            read=weights.linear(f"{name}.attn.Wo", bias=False),
            wide_norm=weights.take(f"{name}.mlp_norm.weight"),
            up=weights.linear(f"{name}.mlp.Wi", bias=False),
            down=weights.linear(f"{name}.mlp.Wo", bias=False),
        )

    return PreNorm(
        shape,
        word=weights.take("embeddings.tok_embeddings.weight"),
        embedded=weights.take("embeddings.norm.weight"),
        layers=[layer(number) for number in range(len(shape.layers))],
        final=weights.take("final_norm.weight"),
        centred=True,
        activation="gelu",
    )


def score(weights: Weights, config: Config) -> Score:
    """See `families.PackedFamily`."""
    from .backbone import Score

    return Score(
        weights.row("classifier"),
        config.get("classifier_pooling", "cls"),
        weights.linear("head.dense", bias=False, rooted=False),
        "gelu",
        (weights.take("head.norm.weight", rooted=False), config["norm_eps"]),
    )
