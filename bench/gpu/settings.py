"""What is measured, in full and as a dry run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A BERT with random weights; speed does not depend on them."""

    name: str
    layers: int
    heads: int
    width: int
    wide: int
    vocabulary: int


MINILM = ModelShape("MiniLM-L6-shaped", 6, 12, 384, 1536, 30_522)
BERT_BASE = ModelShape("bert-base-shaped", 12, 12, 768, 3072, 30_522)
XLMR_LARGE = ModelShape("XLM-R-large-shaped", 24, 16, 1024, 4096, 250_002)
TINY = ModelShape("tiny", 2, 4, 64, 128, 500)
# Heads of 64, of which MiniLM (32) says nothing, at the least depth: for checks.
WIDE_HEADS = ModelShape("two layers of bert-base", 2, 12, 768, 3072, 30_522)
TINY_WIDE_HEADS = ModelShape("tiny with heads of 64", 2, 2, 128, 256, 500)


@dataclass(frozen=True, slots=True)
class Settings:
    """A run. tokens: of a pair on average, special ones and the query's included; repeats: timings of each number, of
    which a lone search has more, `searches`: its p99 is a target.

    case_seconds: a case that tells nothing for so long is taken for stuck; compiling bert-base takes a minute
    """

    device: str = "cuda"
    minutes: float = 9.0
    case_seconds: float = 150.0
    models: tuple[ModelShape, ...] = (MINILM, BERT_BASE, XLMR_LARGE)
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


def dry_run() -> Settings:
    """Everything, on the CPU, at sizes that show only that it runs."""
    return replace(
        Settings(),
        device="cpu",
        minutes=5.0,
        models=(TINY,),
        passages=(500,),
        tokens=(24,),
        base_passages=500,
        base_tokens=24,
        candidates=8,
        concurrency=(1, 4),
        concurrency_seconds=0.2,
        throughput_pairs=16,
        repeats=3,
        searches=3,
        matmul=64,
        copy_bytes=2**16,
        faiss_rows=500,
    )


def restored(plain: dict[str, Any]) -> Settings:
    """Settings out of `dataclasses.asdict` and JSON."""
    models = tuple(ModelShape(**model) for model in plain["models"])
    tuples = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    return Settings(**{**plain, **tuples, "models": models})
