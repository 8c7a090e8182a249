"""From texts to a published collection: passages a second, and what each step costs, beside rivals that encode.

A sample of the collection's own passages is indexed whole, as `tandem index` does. Rivals encode the same texts in one
call. The floor is the encoder's matrix products at the measured rate.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Engine
from ..engine.build.indexing import index_corpus
from ..engine.models.encoder import BiEncoder
from . import floors
from .document import Document, Table, document
from .latency import needed_reranker
from .rivals import Rival, Unavailable, running
from .spread import significant, spread
from .workloads import Workload, model_names, read_texts

WARM_UP = 32
"""Texts that a rival encodes before it is timed: a batch by the defaults of most."""
MEASURES = "passages a second from texts to a published collection, and of the encoder alone, beside rivals"


def indexing(
    engine: Engine,
    workload: Workload,
    *,
    passages: int,
    rivals: Sequence[str] = (),
    environments: Path | None = None,
    repeats: int = 3,
    seed: int = 0,
    scratch: Path | None = None,
    progress: Callable[[int, int | None, str], None] = lambda done, total, what: None,
) -> Document:
    """Index `passages` passages drawn with `seed` once; encode them `repeats` times with each system, in turns."""
    count = min(passages, len(engine.collection))
    rows = np.sort(np.random.default_rng(seed).choice(len(engine.collection), count, replace=False))
    plain = read_texts(engine, rows, titled=engine.collection.manifest.settings.encode_title)
    texts = [engine.encoder.prompted(text, "passage") for text in plain]
    rates = floors.measure(engine.device.threads)
    encoder = BiEncoder(engine.encoder.artifact, engine.device, engine.encoder.precision, split="sequences")
    encoder.warm_up()
    with running(
        rivals, encoder.artifact, needed_reranker(engine).artifact, threads=engine.device.threads,
        environments=environments,
    ) as (started, absent):  # fmt: skip
        able = [rival for rival in started if "encode" in rival.spec.abilities]
        absent.update({rival.name: "it has no bi-encoder" for rival in started if rival not in able})
        seconds = _turns(encoder, able, texts, repeats, absent, progress)
    start = time.perf_counter()
    lengths = encoder.tokenizer.single(encoder.tokenizer.encode_many(texts)).lengths
    tokenised = time.perf_counter() - start
    flops = float(floors.model_flops(encoder.artifact, lengths, first_token=False).sum())
    least = {name: flops / rate for name, rate in rates.gemm.items() if name in ("fp32", "int8")}
    measured: dict[str, Any] = {
        "encode_seconds": {name: spread(each) for name, each in seconds.items() if name not in absent},
        "tokenize_seconds": significant(tokenised),
        "index_seconds": significant(_whole(engine, plain, scratch)),
        "floor_seconds": {name: significant(value) for name, value in least.items()},
    }
    description = {
        "name": workload.name, "passages": count, "passage_tokens": spread(lengths.tolist()), "seed": seed,
        **model_names(engine), "threads": engine.device.threads,
    }  # fmt: skip
    return document(
        "index", MEASURES, workload=description, tables=[_table(description, measured, rates, absent)],
        rates=rates.to_dict(), absent=absent, **measured,
    )  # fmt: skip


def _turns(
    encoder: BiEncoder, rivals: Sequence[Rival], texts: Sequence[str], repeats: int, absent: dict[str, str],
    progress: Callable[[int, int | None, str], None],
) -> dict[str, list[float]]:  # fmt: skip
    """System → seconds of each round; a rival that fails goes into `absent`."""
    seconds: dict[str, list[float]] = {"tandem": []}
    for rival in rivals:  # ours is warm too
        try:
            rival.encode(texts[:WARM_UP])
        except Unavailable as reason:
            absent[rival.name] = str(reason)
    for turn in range(repeats):
        start = time.perf_counter()
        encoder.encode(encoder.tokenizer.encode_many(texts))
        seconds["tandem"].append(time.perf_counter() - start)
        for rival in rivals:
            if rival.name in absent:
                continue
            try:
                seconds.setdefault(rival.name, []).append(rival.encode(texts).ms / 1e3)
            except Unavailable as reason:
                absent[rival.name] = str(reason)
        progress(turn + 1, repeats, "rounds")
    return seconds


def _whole(engine: Engine, texts: Sequence[str], scratch: Path | None) -> float:
    """Seconds of `tandem index` over the texts, with both models."""
    with tempfile.TemporaryDirectory(prefix="tandem-index-", dir=scratch) as name:
        corpus = Path(name) / "corpus.jsonl"
        corpus.write_text(
            "".join(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(texts)),
            encoding="utf-8",
        )
        start = time.perf_counter()
        index_corpus(
            corpus, Path(name) / "collection", encoder=engine.encoder.artifact.path,
            reranker=needed_reranker(engine).artifact.path, device=engine.device.kind, threads=engine.device.threads,
            precision=engine.encoder.precision,
        )  # fmt: skip
        return time.perf_counter() - start


def _table(workload: dict[str, Any], measured: dict[str, Any], rates: floors.Rates, absent: dict[str, str]) -> Table:
    count = workload["passages"]
    ours = measured["encode_seconds"]["tandem"]["p50"]
    rows: list[list[Any]] = [
        [f"floor of the encoder, {name}", f"{count / seconds:.0f}", None, None]
        for name, seconds in measured["floor_seconds"].items()
    ]
    for name, each in measured["encode_seconds"].items():
        low, high = count / each["p75"], count / each["p25"]
        slower = None if name == "tandem" else f"{each['p50'] / ours:.2f}"
        rows.append([f"{name}: encode", f"{count / each['p50']:.0f}", f"{low:.0f}–{high:.0f}", slower])
    rows.append(["tandem: tokenise", f"{count / measured['tokenize_seconds']:.0f}", None, None])
    rows.append(["tandem: the whole of `tandem index`", f"{count / measured['index_seconds']:.0f}", None, None])
    tokens = workload["passage_tokens"]
    notes = [
        f"{workload['name']}: {count:,} passages of {tokens['p50']:.0f} tokens (p95 {tokens['p95']:.0f}), "
        f"{workload['threads']} threads, {workload['encoder']}; encoding includes tokenising; the whole also loads and "
        "warms the models, writes, syncs and checks the collection",
        rates.note(),
        *(f"{name} encodes faster than Tandem" for name, each in measured["encode_seconds"].items()
          if each["p50"] < ours),
        *(f"{name} is not here: {reason}" for name, reason in absent.items()),
    ]  # fmt: skip
    return Table(
        f"Indexing: {workload['name']}", ["", "passages a second", "quartiles", "× Tandem's time"], rows, notes
    )
