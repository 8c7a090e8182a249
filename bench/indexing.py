"""From texts to a published collection: passages a second, and what each step costs, beside rivals that encode.

A sample of the collection's own passages is indexed whole, as `tandem index` does. Rivals encode the same texts in one
call. The floor is the encoder's matrix products at the measured rate.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.build.indexing import index_corpus
from ..engine.models.encoder import BiEncoder
from . import roofline
from .document import Document, Row, Table, document, grid, not_here
from .rivals import Rival
from .setup import Setup
from .stats import significant, spread
from .turns import in_turns, ms_of
from .workloads import model_names, read_texts

WARM_UP = 32
"""Texts that are encoded before anything is timed: a batch by the defaults of most."""
RATE = "passages a second"
MEASURES = "passages a second from texts to a published collection, and of the encoder alone, beside rivals"


def indexing(setup: Setup, *, passages: int, repeats: int = 3, scratch: Path | None = None) -> Document:
    """Index `passages` passages drawn with the seed once; encode them `repeats` times with each system, in turns."""
    engine = setup.engine
    count = min(passages, len(engine.collection))
    rows = np.sort(np.random.default_rng(setup.seed).choice(len(engine.collection), count, replace=False))
    plain = read_texts(engine, rows, titled=engine.collection.manifest.settings.encode_title)
    texts = [engine.encoder.prompted(text, "passage") for text in plain]
    rates = roofline.measure(setup.threads)
    encoder = BiEncoder(engine.encoder.artifact, engine.device, engine.encoder.precision, split="sequences")
    encoder.warm_up()
    with setup.running() as (started, absent):
        contestants: dict[str, Callable[[int], float]] = {"tandem": partial(_ours, encoder, texts)}
        for rival in started:
            if "encode" in rival.spec.abilities:
                contestants[rival.name] = partial(_theirs, rival, texts)
            else:
                absent[rival.name] = "it has no bi-encoder"
        seconds, failed = in_turns(contestants, repeats, seed=setup.seed, progress=setup.progress)
    absent.update(failed)
    start = time.perf_counter()
    lengths = encoder.tokenizer.single(encoder.tokenizer.encode_many(texts)).lengths
    tokenised = time.perf_counter() - start
    flops = float(roofline.model_flops(encoder.artifact.manifest.size, lengths, first_token=False).sum())
    least = {name: flops / rate for name, rate in rates.gemm.items() if name in ("fp32", "int8")}
    measured: dict[str, Any] = {
        "encode_seconds": {name: spread(each) for name, each in seconds.items()},
        "tokenize_seconds": significant(tokenised),
        "index_seconds": significant(_whole(setup, plain, scratch)),
        "floor_seconds": {name: significant(value) for name, value in least.items()},
    }
    description = {
        "name": setup.workload.name, "passages": count, "passage_tokens": spread(lengths.tolist()), "seed": setup.seed,
        **model_names(engine), "threads": setup.threads,
    }  # fmt: skip
    return document(
        "index", MEASURES, workload=description, tables=[_table(description, measured, rates, absent)],
        rates=rates.to_dict(), absent=absent, **measured,
    )  # fmt: skip


def _ours(encoder: BiEncoder, texts: Sequence[str], turn: int) -> float:
    """Seconds to encode the texts; like a rival, a batch of them to warm up."""
    some = texts if turn >= 0 else texts[:WARM_UP]
    return ms_of(lambda: encoder.encode(encoder.tokenizer.encode_many(some))) / 1e3


def _theirs(rival: Rival, texts: Sequence[str], turn: int) -> float:
    return rival.encode(texts if turn >= 0 else texts[:WARM_UP]).ms / 1e3


def _whole(setup: Setup, texts: Sequence[str], scratch: Path | None) -> float:
    """Seconds of `tandem index` over the texts, with both models."""
    with tempfile.TemporaryDirectory(prefix="tandem-index-", dir=scratch) as name:
        engine, corpus = setup.engine, Path(name) / "corpus.jsonl"
        corpus.write_text(
            "".join(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(texts)),
            encoding="utf-8",
        )
        start = time.perf_counter()
        index_corpus(
            corpus, Path(name) / "collection", encoder=engine.encoder.artifact.path,
            reranker=setup.reranker.artifact.path, device=engine.device.kind, threads=setup.threads,
            precision=engine.encoder.precision,
        )  # fmt: skip
        return time.perf_counter() - start


def _table(workload: dict[str, Any], measured: dict[str, Any], rates: roofline.Rates, absent: dict[str, str]) -> Table:
    count = workload["passages"]
    ours = measured["encode_seconds"]["tandem"]["p50"]
    rows: list[Row] = [
        {"": f"floor of the encoder, {name}", RATE: f"{count / seconds:.0f}"}
        for name, seconds in measured["floor_seconds"].items()
    ]
    for name, each in measured["encode_seconds"].items():
        rows.append({
            "": f"{name}: encode", RATE: f"{count / each['p50']:.0f}",
            "quartiles": f"{count / each['p75']:.0f}–{count / each['p25']:.0f}",
            "× Tandem's time": None if name == "tandem" else f"{each['p50'] / ours:.2f}",
        })  # fmt: skip
    rows.append({"": "tandem: tokenise", RATE: f"{count / measured['tokenize_seconds']:.0f}"})
    rows.append({"": "tandem: the whole of `tandem index`", RATE: f"{count / measured['index_seconds']:.0f}"})
    tokens = workload["passage_tokens"]
    notes = [
        f"{workload['name']}: {count:,} passages of {tokens['p50']:.0f} tokens (p95 {tokens['p95']:.0f}), "
        f"{workload['threads']} threads, {workload['encoder']}; encoding includes tokenising; the whole also loads and "
        "warms the models, writes, syncs and checks the collection",
        rates.note(),
        *(f"{name} encodes faster than Tandem" for name, each in measured["encode_seconds"].items()
          if each["p50"] < ours),
        *not_here(absent),
    ]  # fmt: skip
    return grid(f"Indexing: {workload['name']}", rows, notes)
