"""What is measured, in full and as a dry run."""

from __future__ import annotations

from dataclasses import dataclass

from ..random_models.shapes import (
    BERT_BASE,
    MINILM,
    MODERNBERT_BASE,
    QWEN3_SMALL,
    TINY,
    TINY_MODERNBERT,
    TINY_QWEN3,
    XLMR_LARGE,
    ModelShape,
)
from ..random_models.workload import RandomWorkload


@dataclass(frozen=True, slots=True)
class Settings:
    """A run. tokens: of a pair on average, special ones and the query's included; repeats: timings of each number, of
    which a lone search has more, `searches`: its p99 is a target.

    models: those of whole searches and of reranking; decoders: of reranking alone
    case_seconds: a case that tells nothing for so long is taken for stuck; compiling bert-base takes a minute
    """

    device: str = "cuda"
    minutes: float = 9.0
    case_seconds: float = 150.0
    models: tuple[ModelShape, ...] = (MINILM, BERT_BASE, XLMR_LARGE, MODERNBERT_BASE)
    decoders: tuple[ModelShape, ...] = (QWEN3_SMALL,)
    passages: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    tokens: tuple[int, ...] = (64, 128, 170, 256)
    base_passages: int = 1_000_000
    base_tokens: int = 128
    candidates: int = 100
    query_tokens: int = 12
    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    concurrency_seconds: float = 4.0
    throughput_pairs: int = 8192
    repeats: int = 300
    searches: int = 2000
    matmul: int = 8192
    copy_bytes: int = 2**31
    faiss_rows: int = 200_000
    seed: int = 0

    @property
    def dry(self) -> bool:
        return self.device == "cpu"

    def workload(self, shape: ModelShape, passages: int, tokens: int) -> RandomWorkload:
        """A search on this device."""
        return RandomWorkload(shape, passages, tokens, self.device, self.seed, self.query_tokens)


DRY_RUN = Settings(
    device="cpu", minutes=5.0, models=(TINY, TINY_MODERNBERT), decoders=(TINY_QWEN3,), passages=(500,), tokens=(24,),
    base_passages=500, base_tokens=24, candidates=8, concurrency=(1, 4), concurrency_seconds=0.2, throughput_pairs=16,
    repeats=3, searches=3, matmul=64, copy_bytes=2**16, faiss_rows=500,
)  # fmt: skip
"""Everything, on the CPU, at sizes that show only that it runs."""
