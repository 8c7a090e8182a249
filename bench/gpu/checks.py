"""Right before fast: kernels, runtimes and FAISS against their oracles, on fresh random inputs.

A row says what was compared, the error found and the error allowed. The kernels' own tests (`pytest -m gpu`) go
further; these tell that the numbers of this run are numbers of something that works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.cross_encoder import CrossEncoder
from ...engine.device import Device
from ...engine.encoder import BiEncoder
from ...engine.errors import DeviceError
from . import data
from .models import make
from .settings import MINILM, TINY, ModelShape, Settings

# Half precision has 11 bits: 2e-2 on hidden states of unit size after six layers, 1e-2 on a cosine's vector entries.
LOGIT_ATOL, VECTOR_ATOL, SCORE_ATOL = 3e-2, 1e-2, 2e-3


def checks(settings: Settings, scratch: Path) -> Iterator[dict[str, Any]]:
    """Every check on its own: what raises is a failed row, what this machine lacks a row that passed nothing."""
    shape = TINY if settings.dry else MINILM
    made: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("scan against numpy", lambda: scan_check(settings)),
        ("pack against the host's join", lambda: pack_check(settings)),
        ("packed cross-encoder against FP32 on the CPU", lambda: logit_check(settings, shape, scratch)),
        ("packed bi-encoder against FP32 on the CPU", lambda: vector_check(settings, shape, scratch)),
        ("ONNX Runtime on the device against FP32 on the CPU", lambda: onnx_check(settings, shape, scratch)),
        ("resident pipeline against stages on the CPU", lambda: pipeline_check(settings, shape)),
        ("FAISS against numpy", lambda: faiss_check(settings)),
    ]
    for name, check in made:
        try:
            found = check()
        except (DeviceError, ImportError) as error:
            yield {"check": name, "passed": None, "error": f"not run: {error}"}
            continue
        except Exception as error:  # a failed check is a result, and the others still tell something
            first = (str(error).splitlines() or [""])[0][:300]
            yield {"check": name, "passed": False, "error": f"{type(error).__name__}: {first}"}
            continue
        yield {"check": name, "passed": bool(found["found"] <= found["allowed"]), **found}


def scan_check(settings: Settings) -> dict[str, Any]:
    """Rows found by the scan that are not among numpy's best, as a share."""
    import torch

    from ...kernels.scan import scan

    random = np.random.default_rng(settings.seed)
    vectors, asked = _unit(random, settings.faiss_rows, 384), _unit(random, 7, 384)
    dtype = torch.float32 if settings.dry else torch.float16
    stored, queries = (torch.from_numpy(part).to(settings.device, dtype) for part in (vectors, asked))
    _, rows = scan(stored, queries, 100)
    return _missing(vectors, asked, rows.cpu().numpy())


def pack_check(settings: Settings) -> dict[str, Any]:
    """Ids that differ from the host's join, of pairs with short, long and empty passages."""
    import torch

    from ...engine.tokens import Template, TokenBatch, cumulative, join_pairs
    from ...kernels.pack import PairForm, TokenRows, pack

    random = np.random.default_rng(settings.seed)
    lengths = np.array([0, 1, 5, 700, 508, 509, *random.integers(1, 300, 58)])
    bounds = cumulative(lengths)
    ids = random.integers(5, 30_000, int(bounds[-1])).astype(np.int32)
    query = random.integers(5, 30_000, 13).astype(np.int32)
    form = data.Template()
    own = Template(form.parts, form.part_segments, form.text_segments)
    expected = join_pairs(query, TokenBatch(ids, bounds), own, 512, segments=True)
    device = settings.device

    def on(array: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    packed = pack(
        TokenRows(on(query), on(np.array([0, len(query)]))), TokenRows(on(ids), on(bounds)),
        on(np.arange(len(lengths))), torch.zeros(len(lengths), dtype=torch.int32, device=device),
        PairForm.of(own, 512, device), 16_384,
    )  # fmt: skip
    total = len(expected.ids)
    differing = (packed.ids[:total].cpu().numpy() != expected.ids).sum()
    differing += (packed.layout.cu_seqlens.cpu().numpy() != expected.cu_seqlens).sum()
    return {"found": int(differing), "allowed": 0, "unit": "ids that differ"}


def logit_check(settings: Settings, shape: ModelShape, scratch: Path) -> dict[str, Any]:
    """Largest difference of a logit."""
    artifact = make(scratch / "check-cross", shape, "cross-encoder", seed=settings.seed, graphs=("fp32", "fp16"))
    batch = data.pairs(40, 100, shape, np.random.default_rng(settings.seed))
    ours = CrossEncoder(artifact, _device(settings), runtime="packed").compute_all(batch)
    oracle = CrossEncoder(artifact, Device("cpu", "the oracle", 4), "fp32", runtime="onnx").compute_all(batch)
    return _largest(ours, oracle, LOGIT_ATOL)


def vector_check(settings: Settings, shape: ModelShape, scratch: Path) -> dict[str, Any]:
    """Largest difference of a number in a unit vector."""
    artifact = make(scratch / "check-bi", shape, "bi-encoder", seed=settings.seed, graphs=("fp32",))
    batch = data.pairs(40, 60, shape, np.random.default_rng(settings.seed))
    ours = BiEncoder(artifact, _device(settings), runtime="packed")
    oracle = BiEncoder(artifact, Device("cpu", "the oracle", 4), "fp32", runtime="onnx")
    return _largest(np.stack(list(ours.run(batch))), np.stack(list(oracle.run(batch))), VECTOR_ATOL)  # type: ignore[arg-type]


def onnx_check(settings: Settings, shape: ModelShape, scratch: Path) -> dict[str, Any]:
    """Largest difference of a logit between ONNX Runtime on the device in FP16 and on the CPU in FP32."""
    from ...engine.artifact import Artifact

    artifact = Artifact.open(scratch / "check-cross")
    batch = data.pairs(40, 100, shape, np.random.default_rng(settings.seed))
    device = _device(settings)
    if device.onnx_problem is not None:
        raise DeviceError(device.onnx_problem)
    oracle = CrossEncoder(artifact, Device("cpu", "the oracle", 4), "fp32", runtime="onnx").compute_all(batch)
    precision: Any = "fp32" if settings.dry else "fp16"
    ours = CrossEncoder(artifact, device, precision, runtime="onnx")
    ours.runtime.warm_up()
    return _largest(ours.compute_all(batch), oracle, LOGIT_ATOL)


def pipeline_check(settings: Settings, shape: ModelShape) -> dict[str, Any]:
    """Share of ten hits that the pipeline on the device does not share with the same pipeline on the CPU in FP32."""
    from dataclasses import replace

    from .searches import random_pipeline

    few = replace(settings, base_passages=500, candidates=min(settings.candidates, 30))
    asked = data.queries(6, shape, few, np.random.default_rng(settings.seed))
    ours, stored = random_pipeline(shape, 500, 40, few)
    oracle, _ = random_pipeline(shape, 500, 40, replace(few, device="cpu"), stored)
    one = ours.search(asked, few.candidates, 10)
    other = oracle.search(asked, few.candidates, 10)
    missing = [
        1 - len(np.intersect1d(a.rows[:10], b.rows[:10])) / len(b.rows[:10])
        for a, b in zip(one, other, strict=True)
        if a is not None and b is not None
    ]
    # Random models score random texts nearly alike, so that half precision swaps some; trained ones lie far apart.
    return {"found": float(np.mean(missing)), "allowed": 0.1, "unit": "share of hits that differ"}


def faiss_check(settings: Settings) -> dict[str, Any]:
    """Rows found by FAISS's flat index in half precision that are not among numpy's best, as a share."""
    import tempfile

    from ...engine import gpu
    from ...engine.recall.gpu_faiss import GpuFaiss
    from ...engine.recall.gpu_planning import GpuPlan

    if (problem := gpu.faiss_problem()) is not None:
        raise DeviceError(problem)
    random = np.random.default_rng(settings.seed)
    vectors, asked = _unit(random, settings.faiss_rows, 384), _unit(random, 7, 384)
    plan = GpuPlan(kind="flat", reason="a check", nbytes=0)
    with tempfile.TemporaryDirectory() as folder:
        index = GpuFaiss.open(Path(folder), vectors, plan, probes=0)
        _, rows = index.search(asked, 100)
    return _missing(vectors, asked, rows)


def _device(settings: Settings) -> Device:
    return Device("cpu" if settings.dry else "cuda", "a benchmark", 4)


def _unit(random: np.random.Generator, rows: int, width: int) -> Any:
    made = random.normal(size=(rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _missing(vectors: Any, asked: Any, rows: Any) -> dict[str, Any]:
    """Half precision may swap neighbours: a found row counts when its exact score is near the 100th best."""
    exact = asked @ vectors.T
    bound = np.sort(exact, axis=1)[:, -rows.shape[1]][:, None]
    wrong = np.take_along_axis(exact, np.maximum(rows, 0), axis=1) < bound - SCORE_ATOL
    return {"found": float((wrong | (rows < 0)).mean()), "allowed": 0.0, "unit": "share of rows that are wrong"}


def _largest(ours: Any, oracle: Any, allowed: float) -> dict[str, Any]:
    difference = np.abs(ours - oracle)
    found = float(difference.max()) if np.isfinite(ours).all() else float("inf")
    return {"found": found, "allowed": allowed, "unit": "largest difference", "scale": float(np.abs(oracle).max())}
