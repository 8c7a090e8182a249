"""Other ways to do the same two stages, with the same weights and texts, each as its own documentation runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.artifact import Artifact
from ..engine.errors import InputError

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """rows: passages in the final order; stages: name → milliseconds (`recall` with the query's encoding, `rerank`)."""

    rows: list[int]
    stages: dict[str, float]


class System(Protocol):
    """Something that answers a query with two stages."""

    name: str

    def answer(self, query: str, candidates: int) -> Answer: ...


class Tandem:
    """This engine, without a budget: every candidate is reranked."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._engine = engine

    def answer(self, query: str, candidates: int) -> Answer:
        """One search; `overhead` is everything that is neither a model nor the index."""
        result = self._engine.search(query, top_k=candidates, candidates=candidates, budget_ms=None)
        timings = result.timings
        recall, rerank = timings.encode + timings.recall, timings.rerank
        stages = {
            "recall": recall,
            "rerank": rerank,
            "overhead": timings.total - recall - rerank,
            "total": timings.total,
        }
        return Answer([self._engine.collection.row_of(hit.id) for hit in result.hits], stages)


class SentenceTransformers:
    """sentence-transformers on PyTorch with its defaults: `encode`, a matrix product, `CrossEncoder.predict`."""

    name = "sentence-transformers"

    def __init__(
        self, encoder: Artifact, reranker: Artifact, vectors: Vectors, texts: Sequence[str], threads: int
    ) -> None:
        try:
            import torch
            from sentence_transformers import CrossEncoder, SentenceTransformer, models
        except ImportError as error:
            raise InputError(f"the rival sentence-transformers needs tandem[export] ({error})") from error
        torch.set_num_threads(threads)
        transformer = models.Transformer(str(encoder.path), max_seq_length=encoder.manifest.max_length)
        pooling = models.Pooling(encoder.manifest.dimension, encoder.manifest.pooling)
        self._encoder = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
        self._reranker = CrossEncoder(str(reranker.path), max_length=reranker.manifest.max_length, device="cpu")
        self._vectors = torch.from_numpy(np.array(vectors))
        self._texts = texts
        self._prompt = encoder.manifest.prompts.query

    def answer(self, query: str, candidates: int) -> Answer:
        """Recall by one matrix product, rerank by `predict` on text pairs."""
        start = time.perf_counter()
        vector = self._encoder.encode(self._prompt + query, convert_to_tensor=True, show_progress_bar=False)
        rows = (self._vectors @ vector).topk(candidates).indices.tolist()
        recalled = time.perf_counter()
        scores = self._reranker.predict([(query, self._texts[row]) for row in rows], show_progress_bar=False)
        return _answer(rows, np.asarray(scores), start, recalled)


class PlainOnnx:
    """The loop most people write: ONNX Runtime FP32, all pairs padded to the longest, one run."""

    name = "plain ONNX loop"

    def __init__(
        self, encoder: Artifact, reranker: Artifact, vectors: Vectors, texts: Sequence[str], threads: int
    ) -> None:
        self._encoder, self._reranker = _Plain(encoder, threads), _Plain(reranker, threads)
        self._vectors = np.ascontiguousarray(vectors)
        self._texts = texts
        self._prompt = encoder.manifest.prompts.query

    def answer(self, query: str, candidates: int) -> Answer:
        """Recall by one matrix product, rerank in one padded batch."""
        start = time.perf_counter()
        hidden, mask = self._encoder.run([self._prompt + query])
        pooled = (hidden * mask[:, :, None]).sum(axis=1)[0]
        scores = self._vectors @ (pooled / np.linalg.norm(pooled))
        rows = np.argsort(-scores)[:candidates].tolist()
        recalled = time.perf_counter()
        logits, _ = self._reranker.run([(query, self._texts[row]) for row in rows])
        return _answer(rows, logits[:, 0], start, recalled)


class _Plain:
    """A tokenizer that truncates and pads by itself, and a session with ONNX Runtime's defaults but for the threads."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(artifact.path / "tokenizer.json"))
        self._tokenizer.enable_truncation(artifact.manifest.max_length)
        self._tokenizer.enable_padding(pad_id=artifact.manifest.pad_id)
        graph: Path = artifact.graph("fp32")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = {entry.name for entry in self._session.get_inputs()}

    def run(self, texts: Sequence[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        encodings = self._tokenizer.encode_batch(texts)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
        }
        return self._session.run(None, {name: feeds[name] for name in self._inputs})[0], mask


def _answer(rows: list[int], scores: npt.NDArray[Any], start: float, recalled: float) -> Answer:
    order = np.argsort(-scores, kind="stable")
    end = time.perf_counter()
    stages = {"recall": recalled - start, "rerank": end - recalled, "total": end - start}
    return Answer([rows[place] for place in order], {stage: seconds * 1e3 for stage, seconds in stages.items()})


RIVALS: dict[str, Callable[[Artifact, Artifact, Vectors, Sequence[str], int], System]] = {
    "sentence-transformers": SentenceTransformers,
    "plain-onnx": PlainOnnx,
}
