"""fastembed with our models registered as custom ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from fastembed.rerank.cross_encoder import TextCrossEncoder

from .protocol import Config, serve


class FastEmbed:
    packages = ("fastembed", "onnxruntime")

    def __init__(self, config: Config) -> None:
        graph, threads = config["graph"], config["threads"]
        nowhere = ModelSource(hf="none/none")
        pooling = PoolingType.CLS if config["pooling"] == "cls" else PoolingType.MEAN
        TextEmbedding.add_custom_model(
            "bench/encoder", pooling=pooling, normalization=True, sources=nowhere, dim=config["dimension"],
            model_file=graph,
        )  # fmt: skip
        TextCrossEncoder.add_custom_model("bench/reranker", sources=nowhere, model_file=graph)
        self._encoder = TextEmbedding(
            "bench/encoder", specific_model_path=config["encoder"], threads=threads, cuda=False
        )
        self._reranker = TextCrossEncoder(
            "bench/reranker", specific_model_path=config["reranker"], threads=threads, cuda=False
        )

    def encode(self, texts: Sequence[str]) -> Any:
        return list(self._encoder.embed(list(texts)))

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        return list(self._reranker.rerank(query, list(texts)))


if __name__ == "__main__":
    serve(FastEmbed)
