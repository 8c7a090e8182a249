"""infinity-emb's engine in process, without its HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infinity_emb import AsyncEmbeddingEngine, EngineArgs

from .protocol import Config, serve


class Infinity:
    packages = ("infinity-emb", "optimum", "onnxruntime")

    def __init__(self, config: Config) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config["threads"]])
        self._loop = asyncio.new_event_loop()
        self._encoder = self._start(config, "encoder")
        self._reranker = self._start(config, "reranker")

    def _start(self, config: Config, kind: str) -> AsyncEmbeddingEngine:
        """An engine on a folder's graph, which it finds only beside the configuration and in the current folder."""
        folder = Path(config[kind])
        (folder / config["graph"]).rename(folder / Path(config["graph"]).name)
        _limit(folder / "config.json", config[f"{kind}_tokens"])
        os.chdir(folder)
        engine = AsyncEmbeddingEngine.from_args(
            EngineArgs(
                model_name_or_path=".", engine=config["backend"], device="cpu", batch_size=32, model_warmup=False
            )
        )
        self._loop.run_until_complete(engine.astart())
        return engine

    def encode(self, texts: Sequence[str]) -> Any:
        vectors, _ = self._loop.run_until_complete(self._encoder.embed(sentences=list(texts)))
        return vectors

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        return self._loop.run_until_complete(self._scores(query, texts))

    def rerank_together(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Any:
        async def gathered() -> Any:
            return await asyncio.gather(*map(self._scores, queries, texts))

        return self._loop.run_until_complete(gathered())

    async def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        ranked, _ = await self._reranker.rerank(query=query, docs=list(texts), raw_scores=True)
        scores = [0.0] * len(texts)
        for one in ranked:
            scores[one.index] = float(one.relevance_score)
        return scores


def _limit(path: Path, tokens: int) -> None:
    """It cuts texts at `max_position_embeddings`, which the ONNX graph does not ask for: to the same length as ours."""
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "max_position_embeddings": tokens}))


if __name__ == "__main__":
    serve(Infinity)
