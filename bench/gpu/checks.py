"""Right before fast: kernels, runtimes and FAISS against their oracles, on fresh random inputs.

A row says what was compared, the error found and the error allowed. The kernels' own tests (`pytest -m gpu`) go
further; these tell that the numbers of this run are numbers of something that works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...engine.models.cross_encoder import CrossEncoder
from ...engine.models.encoder import BiEncoder
from ...engine.platform import cuda_driver
from ...engine.platform.device import Device
from ..document import said
from . import data
from .cases import Case, Row, Task
from .models import made
from .settings import MINILM, TINY, TINY_WIDE_HEADS, WIDE_HEADS, ModelShape, Settings

# Half precision has 11 bits: 2e-2 on hidden states of unit size after six layers, 1e-2 on a cosine's vector entries.
LOGIT_ATOL, VECTOR_ATOL, SCORE_ATOL = 3e-2, 1e-2, 2e-3
# Of ten hits on the device, at least 99.5 % are the oracle's.
HITS_THAT_MAY_DIFFER = 0.005
PIPELINE_QUERIES = 20
CPU = Device("cpu", "the oracle", 4)


class _NotHere(Exception):
    """What a check needs is not on this machine, and the library that would say so was asked: no proof, no failure."""


def checks(task: Task) -> Iterator[Case]:
    """Every check on its own: what raises is a failed row, what this machine lacks a row that passed nothing.

    FAISS's is the second part: where a build does not suit its card it ends the process.
    """
    settings = task.settings
    shape, wide = (TINY, TINY_WIDE_HEADS) if settings.dry else (MINILM, WIDE_HEADS)
    own: list[tuple[str, Callable[[], Row]]] = [
        ("scan against numpy", lambda: scan_check(settings)),
        ("pack against the host's join", lambda: pack_check(settings)),
        ("packed cross-encoder against FP32 on the CPU", lambda: logit_check(task, shape)),
        ("the same, heads of 64", lambda: logit_check(task, wide)),
        ("packed bi-encoder against FP32 on the CPU", lambda: vector_check(task, shape)),
        ("resident pipeline against stages on the CPU", lambda: pipeline_check(settings, shape)),
        ("ONNX Runtime on the device against FP32 on the CPU", lambda: onnx_check(task, shape)),
    ]
    faiss = [("FAISS against numpy", lambda: faiss_check(settings))]
    for name, check in own if task.turn == "first" else faiss:
        yield Case({"check": name}, partial(judged, check))


def judged(check: Callable[[], Row]) -> Iterator[Row]:
    """What a check found, and whether it passed: None where it could not be made here, False when it raised."""
    try:
        found = check()
    except _NotHere as reason:
        yield {"passed": None, "error": f"not run: {reason}"}
    except Exception as error:  # a CUDA fault too: a failed check is a result, and the others still tell something
        yield {"passed": False, "error": said(error)}
    else:
        yield {"passed": bool(found["found"] <= found["allowed"]), **found}


def scan_check(settings: Settings) -> Row:
    """Rows found by the scan that are not among numpy's best, as a share."""
    _needs_torch(settings)
    import torch

    from ...kernels.scan import scan

    random = np.random.default_rng(settings.seed)
    vectors, asked = _unit(random, settings.faiss_rows, 384), _unit(random, 7, 384)
    dtype = torch.float32 if settings.dry else torch.float16
    stored, queries = (torch.from_numpy(part).to(settings.device, dtype) for part in (vectors, asked))
    _, rows = scan(stored, queries, 100)
    return _missing(vectors, asked, rows.cpu().numpy())


def pack_check(settings: Settings) -> Row:
    """Ids that differ from the host's join, of pairs with short, long and empty passages."""
    _needs_torch(settings)
    import torch

    from ...engine.text.tokens import Template, TokenBatch, cumulative, join_pairs
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


def logit_check(task: Task, shape: ModelShape) -> Row:
    """Largest difference of a logit."""
    _needs_torch(task.settings)
    artifact, batch, oracle = _cross(task, shape)
    return _largest(CrossEncoder(artifact, _device(task.settings), runtime="packed").compute_all(batch), oracle)


def vector_check(task: Task, shape: ModelShape) -> Row:
    """Largest difference of a number in a unit vector."""
    _needs_torch(task.settings)
    seed = task.settings.seed
    artifact = made(task.scratch / "check-bi", shape, "bi-encoder", seed=seed, graphs=("fp32",))
    batch = data.pairs(40, 60, shape, np.random.default_rng(seed))
    ours = BiEncoder(artifact, _device(task.settings), runtime="packed")
    oracle = BiEncoder(artifact, CPU, "fp32", runtime="onnx")
    found, expected = (np.stack([np.asarray(row) for row in model.run(batch)]) for model in (ours, oracle))
    return _largest(found, expected, VECTOR_ATOL)


def onnx_check(task: Task, shape: ModelShape) -> Row:
    """Largest difference of a logit between ONNX Runtime on the device in FP16 and on the CPU in FP32."""
    device = _device(task.settings)
    if (problem := device.onnx_problem) is not None:
        raise _NotHere(problem)
    artifact, batch, oracle = _cross(task, shape)
    ours = CrossEncoder(artifact, device, "fp32" if task.settings.dry else "fp16", runtime="onnx")
    ours.runtime.warm_up()
    return _largest(ours.compute_all(batch), oracle)


def _cross(task: Task, shape: ModelShape) -> tuple[Any, Any, Any]:
    """A cross-encoder, pairs for it, and their logits in FP32 on the CPU."""
    seed = task.settings.seed
    folder = task.scratch / f"check-cross-{shape.width}"
    artifact = made(folder, shape, "cross-encoder", seed=seed, graphs=("fp32", "fp16"))
    batch = data.pairs(40, 100, shape, np.random.default_rng(seed))
    return artifact, batch, CrossEncoder(artifact, CPU, "fp32", runtime="onnx").compute_all(batch)


def pipeline_check(settings: Settings, shape: ModelShape) -> Row:
    """Share of ten hits that are not hits of the same pipeline on the CPU in FP32.

    Random models score random texts nearly alike, so a hit is one too whose score there is, within the error of a
    logit, the tenth's; `overlap@10` counts without that.
    """
    _needs_torch(settings)
    from .searches import random_pipeline

    few = replace(settings, base_passages=500, candidates=min(settings.candidates, 30))
    asked = data.queries(PIPELINE_QUERIES, shape, few, np.random.default_rng(settings.seed))
    ours, stored = random_pipeline(shape, 500, 40, few)
    oracle, _ = random_pipeline(shape, 500, 40, replace(few, device="cpu"), stored)
    one = ours.search(asked, few.candidates, 10)
    # More candidates than ours had: what half precision took from just beyond them is judged as well.
    other = oracle.search(asked, 2 * few.candidates, 2 * few.candidates)
    judged = [hits_judged(a, b, few.candidates) for a, b in zip(one, other, strict=True)]
    wrong, overlap, spread = np.mean(judged, axis=0).tolist()
    return {
        "found": wrong, "allowed": HITS_THAT_MAY_DIFFER, "unit": "share of hits that are wrong", "overlap@10": overlap,
        "scale": spread,
    }  # fmt: skip


def hits_judged(ours: Any, oracle: Any, candidates: int) -> tuple[float, float, float]:
    """Of a query's `Found`s: share of ten hits that are wrong, share that is the oracle's ten, spread of its scores.

    `oracle` has more than `candidates` candidates, all kept. No answer is wrong altogether.
    """
    if ours is None or oracle is None:
        return 1.0, 0.0, 0.0
    within = oracle.places < candidates
    best = oracle.rows[within][:10]
    tenth, last = oracle.scores[within][:10].min(), oracle.cosines[within].min()
    right = oracle.rows[(oracle.scores >= tenth - LOGIT_ATOL) & (oracle.cosines >= last - SCORE_ATOL)]
    hits = np.unique(ours.rows[:10])  # a row that came twice is one hit, and the other place is wrong
    wrong = 1 - len(np.intersect1d(hits, right)) / len(best)
    return wrong, len(np.intersect1d(hits, best)) / len(best), float(oracle.scores[within].std())


def faiss_check(settings: Settings) -> Row:
    """Rows found by FAISS's flat index in half precision that are not among numpy's best, as a share."""
    if (problem := cuda_driver.faiss_problem()) is not None:
        raise _NotHere(problem)
    import tempfile
    from pathlib import Path

    from ...engine.recall.gpu_faiss import GpuFaiss
    from ...engine.recall.gpu_planning import GpuPlan

    random = np.random.default_rng(settings.seed)
    vectors, asked = _unit(random, settings.faiss_rows, 384), _unit(random, 7, 384)
    plan = GpuPlan(kind="flat", reason="a check", nbytes=0)
    with tempfile.TemporaryDirectory() as folder:
        index = GpuFaiss.open(Path(folder), vectors, plan, probes=0)
        _, rows = index.search(asked, 100)
    return _missing(vectors, asked, rows)


def _needs_torch(settings: Settings) -> None:
    if not settings.dry and (problem := cuda_driver.torch_problem()) is not None:
        raise _NotHere(problem)


def _device(settings: Settings) -> Device:
    return Device("cpu" if settings.dry else "cuda", "a benchmark", 4)


def _unit(random: np.random.Generator, rows: int, width: int) -> Any:
    made = random.normal(size=(rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _missing(vectors: Any, asked: Any, rows: Any) -> Row:
    """Half precision may swap neighbours: a found row counts when its exact score is near the 100th best."""
    exact = asked @ vectors.T
    bound = np.sort(exact, axis=1)[:, -rows.shape[1]][:, None]
    wrong = np.take_along_axis(exact, np.maximum(rows, 0), axis=1) < bound - SCORE_ATOL
    return {"found": float((wrong | (rows < 0)).mean()), "allowed": 0.0, "unit": "share of rows that are wrong"}


def _largest(ours: Any, oracle: Any, allowed: float = LOGIT_ATOL) -> Row:
    difference = np.abs(ours - oracle)
    found = float(difference.max()) if np.isfinite(ours).all() else float("inf")
    return {"found": found, "allowed": allowed, "unit": "largest difference", "scale": float(np.abs(oracle).max())}
