"""How large a model is, and what its `config.json` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...engine.models.runtime.families import Shape, shape_of

MAX_LENGTH = 512
Family = Literal["bert", "xlm-roberta", "modernbert", "qwen3"]
CLASSES: dict[Family, str] = {
    "bert": "Bert", "xlm-roberta": "XLMRoberta", "modernbert": "ModernBert", "qwen3": "Qwen3",
}  # fmt: skip
"""What transformers' classes begin with."""
WINDOW = 128
"""Tokens that a local layer of ModernBERT sees, half of them on either side."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model with random weights; speed does not depend on them. kv_heads, head_dim: of Qwen3."""

    name: str
    layers: int
    heads: int
    width: int
    wide: int
    vocabulary: int
    family: Family = "bert"
    kv_heads: int = 0
    head_dim: int = 0

    def architecture(self) -> dict[str, Any]:
        """Its `config.json`, but for the task."""
        return {
            "model_type": self.family, "hidden_size": self.width, "intermediate_size": self.wide,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "vocab_size": self.vocabulary,
            "max_position_embeddings": MAX_LENGTH, "pad_token_id": 0, **self._own(),
        }  # fmt: skip

    @property
    def sizes(self) -> Shape:
        """As the packed runtime reads them."""
        shape = shape_of(self.architecture())
        if isinstance(shape, str):
            raise ValueError(f"{self.name} is no model of the packed runtime: {shape}")
        return shape

    def _own(self) -> dict[str, Any]:
        """What only its family says."""
        if self.family == "modernbert":
            return {
                "hidden_activation": "gelu", "norm_eps": 1e-5, "local_attention": WINDOW,
                "global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0,
                "classifier_pooling": "cls", "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3,
            }  # fmt: skip
        if self.family == "qwen3":
            return {
                "hidden_act": "silu", "rms_norm_eps": 1e-6, "num_key_value_heads": self.kv_heads,
                "head_dim": self.head_dim, "rope_theta": 1e6, "bos_token_id": 2, "eos_token_id": 3,
            }  # fmt: skip
        bert = {
            "hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
        # Positions begin behind the padding's id.
        roberta = {"type_vocab_size": 1, "max_position_embeddings": MAX_LENGTH + 1}
        return bert | roberta if self.family == "xlm-roberta" else bert


MINILM = ModelShape("MiniLM-L6-shaped", 6, 12, 384, 1536, 30_522)
BERT_BASE = ModelShape("bert-base-shaped", 12, 12, 768, 3072, 30_522)
XLMR_LARGE = ModelShape("XLM-R-large-shaped", 24, 16, 1024, 4096, 250_002)
MODERNBERT_BASE = ModelShape("ModernBERT-base-shaped", 22, 12, 768, 1152, 50_368, "modernbert")
QWEN3_SMALL = ModelShape("Qwen3-0.6B-shaped", 28, 16, 1024, 3072, 151_669, "qwen3", kv_heads=8, head_dim=128)
TINY = ModelShape("tiny", 2, 4, 64, 128, 500)
TINY_ROBERTA = ModelShape("tiny XLM-R", 2, 4, 64, 128, 500, "xlm-roberta")
TINY_MODERNBERT = ModelShape("tiny ModernBERT", 3, 4, 64, 96, 500, "modernbert")
TINY_QWEN3 = ModelShape("tiny Qwen3", 2, 4, 64, 96, 500, "qwen3", kv_heads=2, head_dim=32)
