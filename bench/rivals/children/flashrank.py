"""FlashRank's own `Ranker.rerank` on our graph, under a name and a file name that it knows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flashrank import Ranker, RerankRequest

from .protocol import Config, serve

# One of the names in flashrank.Config.model_file_map; a folder of that name in its cache is taken as it is.
NAME, FILE = "ms-marco-MiniLM-L-12-v2", "flashrank-MiniLM-L-12-v2_Q.onnx"


class FlashRank:
    packages = ("flashrank", "onnxruntime")

    def __init__(self, config: Config) -> None:
        # FlashRank makes its session itself and takes a thread a core, so cores are what can be limited.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config["threads"]])
        folder = Path(config["reranker"])
        cache = folder.parent / "flashrank"
        shutil.copytree(folder, cache / NAME, ignore=shutil.ignore_patterns("onnx", "*.safetensors"))
        shutil.copy(folder / config["graph"], cache / NAME / FILE)
        self._ranker = Ranker(NAME, cache_dir=str(cache), max_length=config["reranker_tokens"], log_level="ERROR")

    def encode(self, texts: Sequence[str]) -> Any:
        raise NotImplementedError("FlashRank has no bi-encoder")

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        passages = [{"id": place, "text": text} for place, text in enumerate(texts)]
        ranked = self._ranker.rerank(RerankRequest(query=query, passages=passages))
        scores = [0.0] * len(texts)
        for passage in ranked:
            scores[passage["id"]] = float(passage["score"])
        return scores


if __name__ == "__main__":
    serve(FlashRank)
