"""The loop most people write: ONNX Runtime, all texts padded to the longest, one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from .protocol import Config, pooled, serve


class _Plain:
    """A tokenizer that truncates and pads by itself, and a session with ONNX Runtime's defaults but for the threads."""

    def __init__(self, folder: str, graph: str, tokens: int, pad_id: int, threads: int) -> None:
        self._tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self._tokenizer.enable_truncation(tokens)
        self._tokenizer.enable_padding(pad_id=pad_id)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(f"{folder}/{graph}", options, providers=["CPUExecutionProvider"])
        self._inputs = {entry.name for entry in self._session.get_inputs()}

    def run(self, texts: Sequence[Any]) -> tuple[Any, Any]:
        encodings = self._tokenizer.encode_batch(texts)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
        }
        return self._session.run(None, {name: feeds[name] for name in self._inputs})[0], mask


class PlainOnnx:
    packages = ("onnxruntime", "tokenizers")

    def __init__(self, config: Config) -> None:
        graph, threads = config["graph"], config["threads"]
        self._encoder, self._reranker = (
            _Plain(config[kind], graph, config[f"{kind}_tokens"], config[f"{kind}_pad_id"], threads)
            for kind in ("encoder", "reranker")
        )
        self._pooling = config["pooling"]

    def encode(self, texts: Sequence[str]) -> Any:
        return pooled(*self._encoder.run(texts), self._pooling)

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        return self._reranker.run([(query, text) for text in texts])[0][:, 0]


if __name__ == "__main__":
    serve(PlainOnnx)
