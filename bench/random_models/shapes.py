"""How large a BERT is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 512


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A BERT with random weights; speed does not depend on them."""

    name: str
    layers: int
    heads: int
    width: int
    wide: int
    vocabulary: int

    def architecture(self) -> dict[str, Any]:
        """Its `config.json`, but for the task."""
        return {
            "model_type": "bert", "hidden_act": "gelu", "hidden_size": self.width, "intermediate_size": self.wide,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "vocab_size": self.vocabulary,
            "max_position_embeddings": MAX_LENGTH, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            "position_embedding_type": "absolute", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip


MINILM = ModelShape("MiniLM-L6-shaped", 6, 12, 384, 1536, 30_522)
BERT_BASE = ModelShape("bert-base-shaped", 12, 12, 768, 3072, 30_522)
XLMR_LARGE = ModelShape("XLM-R-large-shaped", 24, 16, 1024, 4096, 250_002)
TINY = ModelShape("tiny", 2, 4, 64, 128, 500)
