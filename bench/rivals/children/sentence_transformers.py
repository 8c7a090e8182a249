"""sentence-transformers on one of its backends: `encode` and `CrossEncoder.predict` with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, models

from .protocol import Config, serve

_PACKAGE = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class SentenceTransformers:
    def __init__(self, config: Config) -> None:
        backend = config["backend"]
        self.packages = ("sentence-transformers", "transformers", _PACKAGE[backend])
        torch.set_num_threads(config["threads"])
        options = _options(config)
        transformer = models.Transformer(
            config["encoder"], max_seq_length=config["encoder_tokens"], backend=backend, model_args=dict(options)
        )
        pooling = models.Pooling(transformer.get_word_embedding_dimension(), config["pooling"])
        self._encoder = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
        self._reranker = CrossEncoder(
            config["reranker"], max_length=config["reranker_tokens"], device="cpu", backend=backend,
            model_kwargs=dict(options), activation_fn=torch.nn.Identity(),
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Any:
        return self._encoder.encode(list(texts), show_progress_bar=False)

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        return self._reranker.predict([(query, text) for text in texts], show_progress_bar=False)


def _options(config: Config) -> dict[str, Any]:
    if config["backend"] == "onnx":
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = config["threads"]
        return {"file_name": config["graph"], "provider": "CPUExecutionProvider", "session_options": session}
    if config["backend"] == "openvino":
        ov_config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(config["threads"])}
        return {"export": True, "ov_config": ov_config}
    return {}


if __name__ == "__main__":
    serve(SentenceTransformers)
