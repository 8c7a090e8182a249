"""transformers as the model cards use it: tokenise with padding, one forward pass on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from .protocol import Config, pooled, serve


class PlainTransformers:
    packages = ("transformers", "torch")

    def __init__(self, config: Config) -> None:
        torch.set_num_threads(config["threads"])
        self._encoder = AutoModel.from_pretrained(config["encoder"]).eval()
        self._reranker = AutoModelForSequenceClassification.from_pretrained(config["reranker"]).eval()
        self._encoder_tokenizer = AutoTokenizer.from_pretrained(config["encoder"])
        self._reranker_tokenizer = AutoTokenizer.from_pretrained(config["reranker"])
        self._limits = config["encoder_tokens"], config["reranker_tokens"]
        self._pooling = config["pooling"]

    def encode(self, texts: Sequence[str]) -> Any:
        with torch.inference_mode():
            inputs = self._encoder_tokenizer(
                list(texts), padding=True, truncation=True, max_length=self._limits[0], return_tensors="pt"
            )
            return pooled(self._encoder(**inputs).last_hidden_state, inputs["attention_mask"], self._pooling)

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        with torch.inference_mode():
            inputs = self._reranker_tokenizer(
                [query] * len(texts), list(texts), padding=True, truncation=True, max_length=self._limits[1],
                return_tensors="pt",
            )  # fmt: skip
            return self._reranker(**inputs).logits[:, 0].numpy()


if __name__ == "__main__":
    serve(PlainTransformers)
