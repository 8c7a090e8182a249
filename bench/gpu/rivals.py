"""The same rerank by others, in the same run: one model, the same pairs, on the same card.

Ours are the packed runtime and ONNX Runtime as the engine drives it. Theirs: sentence-transformers in FP16, once with
PyTorch's attention and once with FlashAttention where that is installed; ONNX Runtime in FP16 as most people write it,
all pairs padded to the longest; torch.compile over the Hugging Face model. Who is given texts tokenises them in the
time that is measured, and is compared with ours that does so too.

In this process, unlike the rivals of `bench/rivals`: five models at two sizes each, seven contestants, in nine minutes
leave no time for starting a process each. Not in turns, since not all of them fit a card at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...engine.errors import DeviceError
from ...engine.models.artifact import Artifact, Precision
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.models.runtime import RuntimeWish
from ...engine.platform.device import Device
from ...engine.text.tokens import TokenBatch
from .. import roofline
from ..document import Row
from ..random_models.artifacts import made, texts
from ..random_models.shapes import ModelShape
from ..random_models.workload import PAIR_SPECIAL
from ..stats import percentiles
from ..turns import in_turns, ms_of
from .device import let_go
from .plan import Case, Task, Turn
from .settings import Settings

OURS, FROM_TEXTS, OURS_ONNX = "tandem packed", "tandem packed, from texts", "tandem ONNX Runtime"
THEIRS, FLASH = "sentence-transformers FP16", "sentence-transformers FP16, FlashAttention"
PLAIN_ONNX, COMPILED = "plain ONNX Runtime", "torch.compile"
RACED = (OURS, FROM_TEXTS, THEIRS, OURS_ONNX, PLAIN_ONNX)
"""Those whom targets are about."""
THEIR_BATCHES = (128, 512)
"""Pairs of a batch of sentence-transformers; its best counts."""
LARGER = 1024
"""Pairs at once of the models that are not the smallest."""
SECONDS = 8.0
WARM_UP = 5
"""torch.compile with CUDA graphs compiles at the first call, warms up at the second, records at the third."""


@dataclass(frozen=True, slots=True)
class Lot:
    """A model and the pairs to score, as texts and as ids."""

    artifact: Artifact
    query: str
    passages: list[str]
    batch: TokenBatch
    settings: Settings


# Ways to run, by name: of several the fastest counts.
Ways = dict[str, Callable[[], Any]]


def rivals(task: Task) -> Iterator[Case]:
    """A row for each model, size and contestant: milliseconds, pairs a second, share of the matrix products' rate."""
    settings = task.settings

    @cache
    def lot(shape: ModelShape, count: int) -> Lot:
        return _lot(shape, count, task)

    field = [(shape, count, who) for shape in _models(settings) for count in _sizes(shape, settings) for who in WAYS]
    for shape, count, who in sorted(field, key=lambda each: each[2] == COMPILED):
        about = {"model": shape.name, "pairs": count, "who": who}
        turn = _turn(shape, count, who, settings)
        yield Case(about, partial(_timed, partial(lot, shape, count), who, shape, task), turn)


def _models(settings: Settings) -> tuple[ModelShape, ...]:
    return *settings.models, *settings.decoders


def _sizes(shape: ModelShape, settings: Settings) -> list[int]:
    """Pairs at once, most first: as many as fill a card, and a search's."""
    most = settings.throughput_pairs if shape is settings.models[0] else min(LARGER, settings.throughput_pairs)
    return sorted({most, min(settings.candidates, settings.throughput_pairs)}, reverse=True)


def _turn(shape: ModelShape, count: int, who: str, settings: Settings) -> Turn:
    place = _models(settings).index(shape)
    if who == COMPILED or place > 1:
        return "last"
    raced = RACED if place == 0 else (OURS,)
    return "first" if who in raced and count == _sizes(shape, settings)[0] else "then"


def _lot(shape: ModelShape, count: int, task: Task) -> Lot:
    settings = task.settings
    # Without the onnx package the contestants that want a graph are missing, and the others are measured.
    graphs: tuple[Precision, ...] = (_precision(settings),) if find_spec("onnx") else ()
    artifact = made(task.scratch / f"rivals-{shape.name}", shape, "cross-encoder", seed=settings.seed, graphs=graphs)
    random = np.random.default_rng(settings.seed)
    mean = max(2, settings.base_tokens - PAIR_SPECIAL - settings.query_tokens)
    passages = texts(shape, random.integers(mean * 3 // 4, mean * 5 // 4 + 1, count).tolist(), random)
    (query,) = texts(shape, [settings.query_tokens], random)
    tokenizer = artifact.tokenizer()
    batch = tokenizer.pairs(tokenizer.encode(query), tokenizer.encode_many(passages))
    return Lot(artifact, query, passages, batch, settings)


def _precision(settings: Settings) -> Precision:
    return "fp32" if settings.dry else "fp16"


def _timed(make: Callable[[], Lot], who: str, shape: ModelShape, task: Task) -> Iterator[Row]:
    let_go(task.settings)
    lot = make()
    count = len(lot.batch)
    ways = WAYS[who](lot)
    repeats = max(3, task.settings.repeats // (10 if count > LARGER else 3))
    turns = {name: partial(_turn_of, run) for name, run in ways.items()}
    taken, _ = in_turns(turns, repeats, warm_up=WARM_UP, seconds=SECONDS)
    times = {name: percentiles(each) for name, each in taken.items()}
    best = min(times, key=lambda name: times[name]["p50 ms"])
    row: Row = {"tokens": float(lot.batch.lengths.mean()), "way": best or None, **times[best]}
    row["pairs/s"] = count / row["p50 ms"] * 1e3
    if task.rates is not None:
        flops = float(roofline.model_flops(shape.sizes, lot.batch.lengths, first_token=True).sum())
        row["share of matmul rate"] = (roofline.floor_ms(flops, task.rates, "fp16") or 0.0) / row["p50 ms"]
    yield row


def _turn_of(run: Callable[[], Any], turn: int) -> float:
    return ms_of(run)


def _device(lot: Lot, runtime: RuntimeWish) -> Device:
    """Raises DeviceError, or ImportError, where ONNX Runtime is asked for and cannot run here."""
    device = Device("cpu" if lot.settings.dry else "cuda", "a benchmark", 4)
    if runtime == "onnx" and device.onnx_problem is not None:
        raise DeviceError(device.onnx_problem)
    if runtime == "onnx" and not lot.artifact.manifest.variants:
        raise ImportError("no graph of it was written: that is done for BERTs, with the package onnx")
    return device


def _ours(lot: Lot, runtime: RuntimeWish) -> CrossEncoder:
    model = CrossEncoder(lot.artifact, _device(lot, runtime), _precision(lot.settings), runtime=runtime)
    if not lot.settings.dry:
        model.warm_up()
    return model


def _from_ids(lot: Lot, runtime: RuntimeWish) -> Ways:
    model = _ours(lot, runtime)
    return {"": lambda: model.compute_all(lot.batch)}


def _from_texts(lot: Lot) -> Ways:
    model, tokenizer = _ours(lot, "packed"), lot.artifact.tokenizer()

    def run() -> Any:
        return model.compute_all(tokenizer.pairs(tokenizer.encode(lot.query), tokenizer.encode_many(lot.passages)))

    return {"": run}


def _sentence_transformers(lot: Lot, attention: str) -> Ways:
    import torch
    from sentence_transformers import CrossEncoder as Theirs

    settings = lot.settings
    kwargs = {"dtype": torch.float32 if settings.dry else torch.float16, "attn_implementation": attention}
    model = Theirs(str(lot.artifact.path), max_length=512, device=settings.device, model_kwargs=kwargs)
    pairs = [(lot.query, passage) for passage in lot.passages]

    def run(size: int) -> Any:
        return model.predict(pairs, batch_size=size, show_progress_bar=False)

    sizes = dict.fromkeys(min(size, len(pairs)) for size in THEIR_BATCHES)
    return {f"batches of {size}": partial(run, size) for size in sizes}


def _padded(lot: Lot) -> Iterator[dict[str, Any]]:
    """The pairs in batches of THEIR_BATCHES[0] as most people's models take them; the last is filled up from the first,
    so that all have one shape."""
    size = min(THEIR_BATCHES[0], len(lot.batch))
    for start in range(0, len(lot.batch), size):
        padded = lot.batch.select(np.arange(start, start + size) % len(lot.batch)).pad(0)
        feeds = {"input_ids": padded.ids, "attention_mask": padded.mask}
        yield feeds | ({"token_type_ids": padded.segments} if lot.artifact.manifest.segments else {})


def _plain_onnx(lot: Lot) -> Ways:
    import onnxruntime

    device = _device(lot, "onnx")
    # Without its own fallback, which would try the CPU again and say so on stdout.
    session = onnxruntime.InferenceSession(
        lot.artifact.graph(_precision(lot.settings)), providers=device.providers, enable_fallback=0
    )
    if device.providers[0] not in session.get_providers():
        raise DeviceError(f"ONNX Runtime could not start {device.providers[0]}")
    return {"": lambda: [session.run(None, feeds)[0] for feeds in _padded(lot)]}


def _compiled(lot: Lot) -> Ways:
    import torch
    from transformers import AutoModelForSequenceClassification

    settings = lot.settings
    dtype = torch.float32 if settings.dry else torch.float16
    model = AutoModelForSequenceClassification.from_pretrained(str(lot.artifact.path)).to(settings.device, dtype).eval()
    # On a CPU compiling takes a C++ compiler and half a minute; the dry run shows that the rest works.
    forward = model if settings.dry else torch.compile(model, mode="reduce-overhead", dynamic=False)
    width = -(-int(lot.batch.lengths.max()) // 64) * 64  # one width too, so that nothing is compiled twice

    @torch.inference_mode()
    def run() -> list[Any]:
        outputs = []
        for feeds in _padded(lot):
            wide = {name: np.pad(array, ((0, 0), (0, width - array.shape[1]))) for name, array in feeds.items()}
            on = {name: torch.from_numpy(array).to(settings.device) for name, array in wide.items()}
            outputs.append(forward(**on).logits.float().cpu())
        return outputs

    return {"": run}


WAYS: dict[str, Callable[[Lot], Ways]] = {
    OURS: partial(_from_ids, runtime="packed"),
    FROM_TEXTS: _from_texts,
    THEIRS: partial(_sentence_transformers, attention="sdpa"),
    FLASH: partial(_sentence_transformers, attention="flash_attention_2"),
    OURS_ONNX: partial(_from_ids, runtime="onnx"),
    PLAIN_ONNX: _plain_onnx,
    COMPILED: _compiled,
}
