"""What a `config.json` says to the packed runtime, in the spellings of transformers 4 and 5, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tandem.engine.models.runtime.families import score_problem, shape_of
from tandem.engine.models.runtime.families.shape import LayerKind

BERT: dict[str, Any] = {
    "model_type": "bert", "vocab_size": 100, "max_position_embeddings": 512, "hidden_size": 64, "num_hidden_layers": 2,
    "intermediate_size": 128, "num_attention_heads": 2, "layer_norm_eps": 1e-12, "pad_token_id": 1,
}  # fmt: skip
MODERNBERT: dict[str, Any] = {
    "model_type": "modernbert", "vocab_size": 100, "max_position_embeddings": 8192, "hidden_size": 64,
    "num_hidden_layers": 4, "intermediate_size": 96, "num_attention_heads": 1, "norm_eps": 1e-5, "local_attention": 128,
}  # fmt: skip
QWEN3: dict[str, Any] = {
    "model_type": "qwen3", "vocab_size": 100, "max_position_embeddings": 32_768, "hidden_size": 64,
    "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "rms_norm_eps": 1e-6,
}  # fmt: skip
FAR, NEAR = "full_attention", "sliding_attention"


def test_modernbert_in_both_spellings() -> None:
    old = {**MODERNBERT, "global_attn_every_n_layers": 2, "global_rope_theta": 5e4, "local_rope_theta": 2e4}
    each = {FAR: {"rope_theta": 5e4, "rope_type": "default"}, NEAR: {"rope_theta": 2e4, "rope_type": "default"}}
    new = {**MODERNBERT, "layer_types": [FAR, NEAR, FAR, NEAR], "rope_parameters": each}
    shape = shape_of(old)
    assert not isinstance(shape, str)
    assert shape == shape_of(new)
    assert shape.layers == (LayerKind(5e4), LayerKind(2e4, 64)) * 2
    assert shape.head_dim == 64


def test_what_modernbert_leaves_out_is_as_transformers_has_it() -> None:
    shape, nulled = shape_of(MODERNBERT), shape_of({**MODERNBERT, "global_rope_theta": 7.0, "local_rope_theta": None})
    assert not isinstance(shape, str)
    assert not isinstance(nulled, str)
    assert shape.layers == (
        LayerKind(160_000.0),
        LayerKind(10_000.0, 64),
        LayerKind(10_000.0, 64),
        LayerKind(160_000.0),
    )
    assert nulled.layers[1] == LayerKind(7.0, 64)


def test_qwen3_in_both_spellings() -> None:
    old = {**QWEN3, "rope_theta": 1e6, "rope_scaling": None, "layer_types": [FAR, FAR], "sliding_window": None}
    new = {**QWEN3, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}
    shape = shape_of(old)
    assert not isinstance(shape, str)
    assert shape == shape_of(new)
    assert shape.layers == (LayerKind(1e6),) * 2
    assert (shape.causal, shape.heads, shape.kv_heads, shape.head_dim, shape.width) == (True, 4, 2, 32, 64)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
def test_positions_behind_the_padding(family: str) -> None:
    shape = shape_of({**BERT, "model_type": family, "max_position_embeddings": 514})
    assert not isinstance(shape, str)
    assert (shape.positions, shape.first_position) == (512, 2)


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (BERT, {"model_type": "deberta-v2"}, "its family is deberta-v2, and the packed runtime knows bert, roberta"),
    (BERT, {"auto_map": {"AutoModel": "x.Y"}}, "names code of its own"),
    (BERT, {"hidden_act": "gelu_new"}, "its hidden_act is gelu_new, and the packed runtime knows gelu"),
    (BERT, {"position_embedding_type": "relative_key"}, "its position_embedding_type is relative_key"),
    (BERT, {"is_decoder": True}, "its is_decoder is True"),
    (BERT, {"pruned_heads": {"0": [1]}}, "its pruned_heads is"),
    (BERT, {"layer_norm_eps": None}, "has no layer_norm_eps"),
    (BERT, {"num_attention_heads": 8}, "its heads are 8 wide"),
    (BERT, {"model_type": "roberta", "pad_token_id": None}, "has no pad_token_id"),
    (BERT, {"model_type": "roberta", "hidden_act": "relu"}, "its hidden_act is relu"),
    (MODERNBERT, {"hidden_activation": "silu"}, "its hidden_activation is silu"),
    (MODERNBERT, {"norm_bias": True}, "its norm_bias is True"),
    (MODERNBERT, {"attention_bias": True}, "its attention_bias is True"),
    (MODERNBERT, {"mlp_bias": True}, "its mlp_bias is True"),
    (MODERNBERT, {"classifier_bias": True}, "its classifier_bias is True"),
    (MODERNBERT, {"classifier_activation": "tanh"}, "its classifier_activation is tanh"),
    (MODERNBERT, {"classifier_pooling": "max"}, "its classifier_pooling is max"),
    (MODERNBERT, {"layer_types": [FAR] * 3}, "its layer_types are not"),
    (MODERNBERT, {"layer_types": [FAR, FAR, FAR, "linear_attention"]}, "its layer_types are not"),
    (MODERNBERT, {"rope_scaling": {"type": "linear", "factor": 2.0}}, r"positions are scaled \(linear, factor\)"),
    (MODERNBERT, {"rope_parameters": {NEAR: YARN}}, r"positions are scaled \(yarn, factor\)"),
    (QWEN3, {"hidden_act": "gelu"}, "its hidden_act is gelu"),
    (QWEN3, {"attention_bias": True}, "its attention_bias is True"),
    (QWEN3, {"use_sliding_window": True}, "its use_sliding_window is True"),
    (QWEN3, {"layer_types": [FAR, NEAR]}, "see a window"),
    (QWEN3, {"is_causal": False}, "its is_causal is False"),
    (QWEN3, {"num_key_value_heads": 3}, "its 4 heads of queries cannot share 3"),
    (QWEN3, {"head_dim": 80}, "its heads are 80 wide"),
    (QWEN3, {"rope_scaling": YARN}, r"positions are scaled \(yarn, factor\)"),
    (QWEN3, {"rope_parameters": YARN}, r"positions are scaled \(yarn, factor\)"),
    (QWEN3, {"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
]


@pytest.mark.parametrize(("config", "changed", "reason"), REFUSED, ids=[reason for *_, reason in REFUSED])
def test_what_is_not_honoured_is_refused_in_words(config: dict[str, Any], changed: dict[str, Any], reason: str) -> None:
    assert not isinstance(shape_of(config), str)
    said = shape_of(config | changed)
    assert isinstance(said, str)
    assert re.search(reason, said), said


def test_a_score_needs_the_head_of_a_classifier() -> None:
    assert score_problem({"architectures": ["XLMRobertaForSequenceClassification"]}) is None
    assert "Qwen3ForCausalLM" in (score_problem({"architectures": ["Qwen3ForCausalLM"]}) or "")
    assert "nothing" in (score_problem({}) or "")
