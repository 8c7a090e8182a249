"""The same rerank by others, in the same run: one model, the same pairs, on the same card.

Ours are the packed runtime and ONNX Runtime as the engine drives it. Theirs: sentence-transformers in FP16, once with
PyTorch's attention and once with FlashAttention where that is installed; ONNX Runtime in FP16 as most people write it,
all pairs padded to the longest; torch.compile over the Hugging Face model. Host work counts where a contestant does
any: sentence-transformers is given texts, as its users give it, all others token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.cross_encoder import CrossEncoder
from ...engine.device import Device
from ...engine.errors import DeviceError
from ...engine.tokens import TokenBatch
from . import data
from .clock import wall_ms
from .floors import rates
from .models import make, texts
from .searches import reset_memory
from .settings import ModelShape, Settings

Contestant = Callable[[], Callable[[], Any]]
OURS = "tandem packed"


def rivals(settings: Settings, floors: list[dict[str, Any]] | None, scratch: Path) -> Iterator[dict[str, Any]]:
    """A row for each model, size and contestant: milliseconds, pairs a second, how much slower than ours."""
    for shape in settings.models:
        artifact = make(
            scratch / f"rivals-{shape.name}", shape, "cross-encoder", seed=settings.seed, graphs=_graphs(settings)
        )
        sizes = [settings.candidates, settings.throughput_pairs if shape is settings.models[0] else 1024]
        for count in dict.fromkeys(min(size, settings.throughput_pairs) for size in sizes):
            yield from _compared(shape, artifact, count, settings, floors)


def _graphs(settings: Settings) -> tuple[Any, ...]:
    return ("fp32",) if settings.dry else ("fp16",)


def _compared(
    shape: ModelShape, artifact: Any, count: int, settings: Settings, floors: list[dict[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(settings.seed)
    tokenizer = artifact.tokenizer()
    mean = max(2, settings.base_tokens - data.PAIR_SPECIAL - settings.query_tokens)
    lengths = random.integers(mean * 3 // 4, mean * 5 // 4 + 1, count)
    passages = texts(shape, lengths.tolist(), random)
    (query,) = texts(shape, [settings.query_tokens], random)
    batch = tokenizer.pairs(tokenizer.encode(query), tokenizer.encode_many(passages))
    contestants: dict[str, Contestant] = {
        OURS: lambda: _ours(artifact, batch, "packed", settings),
        "tandem ONNX Runtime": lambda: _ours(artifact, batch, "onnx", settings),
        "sentence-transformers FP16": lambda: _sentence_transformers(artifact, query, passages, "sdpa", settings),
        "sentence-transformers FP16, FlashAttention": lambda: _sentence_transformers(
            artifact, query, passages, "flash_attention_2", settings
        ),
        "plain ONNX Runtime": lambda: _plain_onnx(artifact, batch, settings),
        "torch.compile": lambda: _compiled(artifact, batch, settings),
    }
    ours: float | None = None
    for name, contestant in contestants.items():
        reset_memory(settings)
        row: dict[str, Any] = {"model": shape.name, "pairs": count, "tokens": float(batch.lengths.mean()), "who": name}
        try:
            times = wall_ms(contestant(), max(3, settings.repeats // (10 if count > 1000 else 3)))
        except Exception as error:  # a rival that is not installed or fails is a row with its reason
            first = (str(error).splitlines() or [""])[0][:200]
            yield {**row, "error": f"{type(error).__name__}: {first}"}
            continue
        ours = times["p50"] if name == OURS else ours
        row |= {f"{key} ms": value for key, value in times.items()} | {"pairs/s": count / times["p50"] * 1e3}
        row["times slower than packed"] = None if ours is None else times["p50"] / ours
        if (measured := rates(floors)) is not None:
            done = data.flops(batch.lengths, shape, first_only=True) / (times["p50"] / 1e3)
            row["share of matmul rate"] = done / measured[1]
        yield row


def _ours(artifact: Any, batch: TokenBatch, runtime: Any, settings: Settings) -> Callable[[], Any]:
    device = Device("cpu" if settings.dry else "cuda", "a benchmark", 4)
    if runtime == "onnx" and device.onnx_problem is not None:
        raise DeviceError(device.onnx_problem)
    model = CrossEncoder(artifact, device, "fp32" if settings.dry else "fp16", runtime=runtime)
    if not settings.dry:
        model.warm_up()
    return lambda: model.compute_all(batch)


def _sentence_transformers(
    artifact: Any, query: str, passages: list[str], attention: str, settings: Settings
) -> Callable[[], Any]:
    import torch
    from sentence_transformers import CrossEncoder as Theirs

    kwargs = {"dtype": torch.float32 if settings.dry else torch.float16, "attn_implementation": attention}
    model = Theirs(str(artifact.path), max_length=512, device=settings.device, model_kwargs=kwargs)
    pairs = [(query, passage) for passage in passages]
    return lambda: model.predict(pairs, batch_size=128, show_progress_bar=False)


def _plain_onnx(artifact: Any, batch: TokenBatch, settings: Settings) -> Callable[[], Any]:
    import onnxruntime

    device = Device("cpu" if settings.dry else "cuda", "a benchmark", 4)
    if device.onnx_problem is not None:
        raise DeviceError(device.onnx_problem)
    session = onnxruntime.InferenceSession(
        artifact.graph("fp32" if settings.dry else "fp16"), providers=device.providers
    )
    if device.providers[0] not in session.get_providers():
        raise DeviceError(f"ONNX Runtime could not start {device.providers[0]}")

    def run() -> list[Any]:
        outputs = []
        for start in range(0, len(batch), 128):
            padded = batch.select(np.arange(start, min(start + 128, len(batch)))).pad(0)
            feeds = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": padded.segments}
            outputs.append(session.run(None, feeds)[0])
        return outputs

    return run


def _compiled(artifact: Any, batch: TokenBatch, settings: Settings) -> Callable[[], Any]:
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.float32 if settings.dry else torch.float16
    model = AutoModelForSequenceClassification.from_pretrained(str(artifact.path)).to(settings.device, dtype).eval()
    # On a CPU compiling takes a C++ compiler and half a minute; the dry run shows that the rest works.
    forward = model if settings.dry else torch.compile(model, mode="reduce-overhead", dynamic=False)
    width, size = -(-int(batch.lengths.max()) // 64) * 64, min(128, len(batch))

    @torch.inference_mode()
    def run() -> list[Any]:
        outputs = []
        for start in range(0, len(batch), size):
            rows = np.arange(start, start + size) % len(batch)  # one shape, so that nothing is compiled twice
            padded = batch.select(rows).pad(0)
            inputs = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": padded.segments}
            wide = {name: np.pad(array, ((0, 0), (0, width - array.shape[1]))) for name, array in inputs.items()}
            on = {name: torch.from_numpy(array).to(settings.device) for name, array in wide.items()}
            outputs.append(forward(**on).logits.float().cpu())
        return outputs

    return run
