"""What the export's work on a graph is worth: each variant's size, error and speed beside the plain tools' graphs.

The rivals are made here from the artifact's own weights: sentence-transformers' model in PyTorch, PyTorch's export as
it comes, and ONNX Runtime's dynamic INT8 of that with its defaults, which is what a user without Tandem would run. All
graphs run on the same session settings, in turns; ours as they are served, a sequence a run and several of them at
once, each on a core of its own. The floor is the matrix products at the measured rate of the precision.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.collection.report import Progress, silent
from ..engine.errors import ExportError
from ..engine.models.artifact import Artifact, Precision
from ..engine.models.external_data import locations
from ..engine.models.runtime import Choice, Runtime, open_runtime
from ..engine.models.runtime.onnx import cpu_session
from ..engine.platform.device import Device, choose
from ..engine.text.tokens import TokenBatch, pack
from . import roofline
from .document import Document, Row, Table, document, grid, not_here
from .stats import shown, significant, spread
from .turns import in_turns, ms_of
from .workloads import weights_of

MEASURES = "size, error and milliseconds of each exported graph, beside what the export tools give without Tandem"
SHAPES = ((1, 16), (1, 128), (4, 128), (1, 256))
"""Sequences × tokens: a query, a passage, a padded micro-batch, a long passage."""
PLAIN, PLAIN_INT8 = "torch.onnx, as exported", "torch.onnx + ONNX Runtime dynamic INT8"
THEIRS = "sentence-transformers (PyTorch)"


def exporting(
    path: Path,
    *,
    repeats: int = 15,
    threads: int | None = None,
    seed: int = 0,
    rivals: bool = True,
    progress: Progress = silent,
) -> Document:
    """Time every graph of the artifact `path` and of the rivals on SHAPES, `repeats` rounds in a changing order."""
    artifact = Artifact.open(path)
    device = choose("cpu", threads)
    rates = roofline.measure(device.threads)
    ours: list[Precision] = [name for name in artifact.manifest.variants if name != "fp16"]
    graphs: dict[str, Path] = {}
    absent: dict[str, str] = {}
    theirs: Callable[[dict[str, Any]], Any] | None = None
    if "fp16" in artifact.manifest.variants:
        absent["tandem fp16"] = "a CPU computes FP16 as FP32 after converting; it is for GPUs"
    with tempfile.TemporaryDirectory(prefix="tandem-export-") as name:
        if rivals:
            try:
                graphs, theirs = _plain(artifact, Path(name), device.threads)
            except (ImportError, ExportError) as error:
                absent["rivals"] = f"{error}; the exporter is in tandem[export]"
        measured = _time(artifact, ours, graphs, theirs, device, repeats, seed, progress)
    least: dict[str, dict[str, float | None]] = {
        _shape(shape): {precision: _floor(artifact, shape, rates, precision) for precision in ("fp32", "int8")}
        for shape in _fitting(artifact)
    }
    role = "reranker" if artifact.manifest.kind == "cross-encoder" else "encoder"
    description = {
        "name": artifact.manifest.name, "kind": artifact.manifest.kind, "threads": device.threads, "repeats": repeats,
        "seed": seed, "weights": {role: weights_of(artifact)},
    }  # fmt: skip
    return document(
        "export", MEASURES, workload=description,
        tables=[_table(artifact, measured, least, rates, absent, description)],
        rates=rates.to_dict(), floor_ms=least, graphs=measured, absent=absent,
    )  # fmt: skip


def _plain(artifact: Artifact, folder: Path, threads: int) -> tuple[dict[str, Path], Callable[[dict[str, Any]], Any]]:
    """The graphs of plain tools from the artifact's weights, and the model in PyTorch; raises ImportError."""
    from .plain_graphs import plain_graph, pytorch_forward
    from .rivals.staging import stage

    source = stage(artifact, None, folder / "source")
    plain, small = folder / "plain.onnx", folder / "plain-int8.onnx"
    plain_graph(artifact, source, plain)
    plain_graph(artifact, source, small, "int8")
    return {PLAIN: plain, PLAIN_INT8: small}, pytorch_forward(artifact, source, threads)


def _time(
    artifact: Artifact, ours: Sequence[Precision], graphs: dict[str, Path],
    theirs: Callable[[dict[str, Any]], Any] | None, device: Device, repeats: int, seed: int, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    numbers = np.random.default_rng(seed)
    feeds = {_shape(shape): _feeds(artifact, shape, numbers) for shape in _fitting(artifact)}
    batches = {shape: pack(list(given["input_ids"].astype(np.int32))) for shape, given in feeds.items()}
    contestants: dict[str, Callable[[int], dict[str, float]]] = {}
    loaded, megabytes = {}, {}
    for precision in ours:
        name, start = f"tandem {precision}", time.perf_counter()
        choice = Choice("onnx", precision, "a benchmark")
        alone = open_runtime(choice, artifact, device, "operators")
        loaded[name] = time.perf_counter() - start
        contestants[name] = partial(_run_served, alone, open_runtime(choice, artifact, device, "sequences"), batches)
        file, kept = artifact.manifest.variants[precision].file, artifact.manifest.files
        megabytes[name] = sum(record.size for part, record in kept.items() if part.startswith(file)) / 1e6
    for name, path in graphs.items():
        start = time.perf_counter()
        contestants[name] = partial(_run_shapes, cpu_session(path, device.threads), feeds)
        loaded[name] = time.perf_counter() - start
        files = [path, *(path.parent / where for where in locations(path))]
        megabytes[name] = sum(part.stat().st_size for part in files) / 1e6
    if theirs is not None:
        contestants[THEIRS] = partial(_forward_shapes, theirs, feeds)
    taken, _ = in_turns(contestants, repeats, seed=seed, progress=progress)
    return {
        name: {
            "megabytes": round(megabytes[name], 1) if name in megabytes else None,
            "load_seconds": round(loaded[name], 3) if name in loaded else None,
            "ms": {shape: spread([one[shape] for one in taken[name]]) for shape in feeds},
        } for name in contestants
    }  # fmt: skip


def _run_served(alone: Runtime, together: Runtime, batches: dict[str, TokenBatch], turn: int) -> dict[str, float]:
    """Shape → milliseconds: one sequence with all threads, several with a thread each."""
    return {
        shape: ms_of(partial((alone if len(batch) == 1 else together).run, batch)) for shape, batch in batches.items()
    }


def _run_shapes(session: Any, feeds: dict[str, dict[str, Any]], turn: int) -> dict[str, float]:
    """Shape → milliseconds: all its sequences in a run."""
    names = [entry.name for entry in session.get_inputs()]
    wanted = {shape: {name: given[name] for name in names} for shape, given in feeds.items()}
    return {shape: ms_of(partial(session.run, None, given)) for shape, given in wanted.items()}


def _forward_shapes(
    forward: Callable[[dict[str, Any]], Any], feeds: dict[str, dict[str, Any]], turn: int
) -> dict[str, float]:
    """Shape → milliseconds of PyTorch."""
    return {shape: ms_of(partial(forward, given)) for shape, given in feeds.items()}


def _feeds(artifact: Artifact, shape: tuple[int, int], numbers: np.random.Generator) -> dict[str, Any]:
    vocabulary = artifact.architecture()["vocab_size"]
    ids = numbers.integers(0, vocabulary, shape, dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _fitting(artifact: Artifact) -> Sequence[tuple[int, int]]:
    return [shape for shape in SHAPES if shape[1] <= artifact.manifest.max_length]


def _shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"


def _floor(artifact: Artifact, shape: tuple[int, int], rates: roofline.Rates, precision: Precision) -> float | None:
    lengths = np.full(shape[0], shape[1], dtype=np.int64)
    first = artifact.manifest.kind == "cross-encoder"
    ms = roofline.floor_ms(
        float(roofline.model_flops(artifact.manifest.size, lengths, first_token=first).sum()), rates, precision
    )
    return None if ms is None else significant(ms)


def _table(
    artifact: Artifact, measured: dict[str, Any], least: dict[str, dict[str, float | None]], rates: roofline.Rates,
    absent: dict[str, str], workload: dict[str, Any],
) -> Table:  # fmt: skip
    shapes = list(least)
    blank: Row = dict.fromkeys(["graph", "MB", "load s", "proven error", *shapes])
    rows = [
        {**blank, "graph": f"floor, {precision}", **{shape: least[shape][precision] for shape in shapes}}
        for precision in ("fp32", "int8")
    ]
    for name, each in measured.items():
        variant = artifact.manifest.variants.get(_precision(name))
        proof = None if variant is None else f"{variant.parity.mean_error:.1e}, tau {variant.parity.kendall_tau:.3f}"
        rows.append({
            "graph": name, "MB": each["megabytes"], "load s": each["load_seconds"], "proven error": proof,
            **{shape: shown(each["ms"][shape]) for shape in shapes},
        })  # fmt: skip
    notes = [
        f"{workload['name']}, a {workload['kind']}; {workload['threads']} threads; ms of sequences × tokens, median "
        "(quartiles); mean error and Kendall tau against PyTorch FP32 are those proven at export",
        rates.note(),
        *(f"{PLAIN if 'fp32' in name else PLAIN_INT8} is faster than {name} at {shape}" for name in measured
          if name.startswith("tandem") for shape in shapes
          if (other := measured.get(PLAIN if "fp32" in name else PLAIN_INT8))
          and other["ms"][shape]["p50"] < measured[name]["ms"][shape]["p50"]),
        *(f"{PLAIN_INT8} is {measured[name]['megabytes'] / measured[PLAIN_INT8]['megabytes']:.1f} times smaller than "
          f"{name}, whose embeddings stay in FP32" for name in measured
          if name == "tandem int8" and PLAIN_INT8 in measured
          and measured[name]["megabytes"] > measured[PLAIN_INT8]["megabytes"]),
        *not_here(absent),
    ]  # fmt: skip
    return grid(f"Exported graphs: {workload['name']}", rows, notes)


def _precision(name: str) -> Any:
    return name.removeprefix("tandem ")
