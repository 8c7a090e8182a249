"""FAISS on a GPU: built there, stored as a CPU index, moved up when a collection opens.

What FAISS does silently wrong on a GPU is refused here: filters (its GPU indexes accept a selector and ignore it), more
than 2,048 neighbours, and a second thread (GPU indexes are not thread-safe even for reads). With no GPU its GPU calls
end the process, so every way in asks `cuda_driver.faiss_problem` first. Written after its documentation; it has not run
on a GPU yet. On a CPU the same face holds the CPU index: that is how it is tested.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError, DeviceError, InputError
from ..platform import cuda_driver
from ..platform.device_errors import translated
from . import exact, int8_codes
from .exact import Floats, Rows
from .gpu_planning import SCRATCH_BYTES, GpuKind, GpuPlan, inverted_plan
from .neighbour_sample import NeighbourSample
from .tuning import tune

log = logging.getLogger(__name__)
MAX_K = 2048
STORED = "gpu.faiss"
TRAINING_POINTS = 64
BLOCK = 1 << 18
SEED = 20_071


class GpuFaiss:
    """The nearest passages of a query (see `Index.search`). The thread that searches first owns it."""

    def __init__(self, index: Any, vectors: Floats, plan: GpuPlan, resources: Any = None) -> None:
        """`index` is a FAISS index, on a GPU or not; `vectors` float32 [n, d] those of the collection, on disk."""
        self.vectors = vectors
        self.plan = plan
        self.recall = "exact" if plan.kind == "flat" else "recall not measured"
        """What it finds of the exact nearest, in words."""
        self._index = index
        self._resources = resources
        self._owner: int | None = None

    @classmethod
    def open(cls, folder: Path, vectors: Floats, plan: GpuPlan, *, probes: int) -> GpuFaiss:
        """The index of a collection's version on the GPU: the stored one where there is one of this form, or built now.

        An inverted file reads as many clusters as the collection's sample asks for, or without one `probes`.

        Raises DeviceError when FAISS has no GPU, OutOfMemory when it does not fit, CollectionError when a file is
        damaged.
        """
        if (problem := cuda_driver.faiss_problem()) is not None:
            raise DeviceError(f"FAISS cannot search on a GPU here: {problem}")
        resources = _resources()
        with translated(f"{len(vectors)} vectors as {plan.kind}"):
            if plan.kind == "flat":
                return cls(_flat(resources, vectors), vectors, plan, resources)
            stored = _stored(folder / STORED, vectors, plan)
            index, plan = stored or (build(vectors, plan, on_gpu=True), plan)
            _set_probes(index, probes or _fewest(plan.lists))
            found = cls(_moved(resources, index), vectors, plan, resources)
            found.calibrate(NeighbourSample.open(folder, vectors))
            return found

    def calibrate(self, sample: NeighbourSample | None) -> None:
        """Read as few clusters as find what exact search finds (see `tune`); without a sample as many as were set."""
        if sample is None:
            self.recall = f"recall not measured (the collection has no sample), {self.probes} probes"
            return
        self.probes = _fewest(self.lists)
        reached = tune(self, sample)
        self.recall = f"recall@{sample.truth.shape[1]} {reached:.3f} at {self.probes} probes"
        self._owner = None  # the thread that opens is not the one that searches

    @property
    def lists(self) -> int:
        """Clusters of the inverted file."""
        return int(self._index.nlist)

    @property
    def probes(self) -> int:
        """Clusters read for a query: 2,048 at most."""
        return int(self._index.nprobe)

    @probes.setter
    def probes(self, probes: int) -> None:
        _set_probes(self._index, probes)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def search(self, queries: Floats, k: int, *, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query; of an inverted file, with high probability.

        queries: float32 [m, d], of unit length where the similarity is the cosine
        returns: scores float32 [m, k], descending; rows int64 [m, k], -1 with score -inf where an inverted file found
                 fewer
        Raises InputError for a filter, for `k` above 2,048 and for a query that is not finite.
        """
        self._check(queries, k, allowed)
        k = min(k, len(self))
        wanted = min(int8_codes.REFINE * k, len(self), MAX_K) if self.plan.kind == "ivf-pq" else k
        with translated(f"FAISS's search for {wanted} neighbours"):
            scores, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), wanted)
        if self.plan.kind == "ivf-pq":
            return self._refined(queries, rows, k)
        return np.where(rows >= 0, scores, -np.inf).astype(np.float32), rows

    def nearest(self, vectors: Any, k: int) -> tuple[Any, Any]:
        """`search` between tensors of one device: float32 [m, d] → scores float32 [m, k], rows int64 [m, k]."""
        import torch

        if self.plan.kind != "ivf-pq":
            return self._between_tensors(vectors.contiguous(), k)
        scores, rows = self.search(vectors.cpu().numpy(), k)
        return torch.from_numpy(scores).to(vectors.device), torch.from_numpy(rows).to(vectors.device)

    def products(self, vectors: Any, rows: Any) -> Any:
        """Exact inner products of tensors of one device: float32 [m, d] and int64 [m, l], -1 for none → float32 [m, l].

        By the host, which has the vectors as they are.
        """
        import torch

        asked, wanted = vectors.cpu().numpy(), rows.clamp(min=0).cpu().numpy()
        found = [exact.products(self.vectors, query, own) for query, own in zip(asked, wanted, strict=True)]
        return torch.from_numpy(np.stack(found)).to(vectors.device)

    def _between_tensors(self, vectors: Any, k: int) -> tuple[Any, Any]:
        """FAISS's own function on addresses, in PyTorch's stream.

        `faiss.contrib.torch_utils` would do the same, but importing it replaces `search` of every index of the process
        by one that takes no search parameters, and so no filters.
        """
        import faiss
        import torch

        self._own()
        scores = torch.empty(len(vectors), k, dtype=torch.float32, device=vectors.device)
        rows = torch.empty(len(vectors), k, dtype=torch.int64, device=vectors.device)
        if vectors.is_cuda:
            ours: Any = faiss  # a build for CPUs has no streams
            stream = ours.cast_integer_to_cudastream_t(torch.cuda.current_stream().cuda_stream)
            self._resources.setDefaultStream(vectors.device.index or 0, stream)
        with translated(f"FAISS's search for {k} neighbours"):
            self._index.search_c(
                len(vectors),
                faiss.cast_integer_to_float_ptr(vectors.data_ptr()),
                k,
                faiss.cast_integer_to_float_ptr(scores.data_ptr()),
                faiss.cast_integer_to_idx_t_ptr(rows.data_ptr()),
            )
        return scores.masked_fill_(rows < 0, -torch.inf), rows

    def _refined(self, queries: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
        """The best of the candidate `rows` by exact inner products."""
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        best = np.full((len(queries), k), -1, dtype=np.int64)
        for place, (query, found) in enumerate(zip(queries, rows, strict=True)):
            real = found[found >= 0]
            own, ranked = exact.rank(self.vectors, query, real, min(k, len(real)))
            scores[place, : len(own)], best[place, : len(own)] = own, ranked
        return scores, best

    def _check(self, queries: Floats, k: int, allowed: npt.NDArray[np.bool_] | None) -> None:
        self._own()
        if allowed is not None:
            raise InputError(
                f"a FAISS index on a GPU ({self.plan.kind}) ignores filters, so a filtered search is refused; filters "
                "need the exact scan"
            )
        if not 1 <= k <= MAX_K:
            raise InputError(f"a search on a GPU finds 1 to {MAX_K} passages, not {k}")
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"queries of shape {queries.shape} do not fit vectors of dimension {self.dimension}")
        if not np.isfinite(queries).all():
            raise InputError("a query vector holds a number that is not finite")

    def _own(self) -> None:
        thread = threading.get_ident()
        self._owner = self._owner or thread
        if self._owner != thread:
            raise RuntimeError("a FAISS index on a GPU was searched by a second thread; the device thread owns it")


def build(vectors: Floats, plan: GpuPlan, *, on_gpu: bool) -> Any:
    """A trained and filled CPU index of `plan`'s form; `on_gpu` trains it and chooses each vector's cluster there.

    Filled on the card it would take half as much again as it does in the end: each list is reserved at the mean length,
    and one that grows beyond it doubles up to 4 MiB and takes a quarter more up to 128. So the lists grow on the host,
    which has all of them in the end in any case, and go up at their exact lengths. Only to choose among thousands of
    clusters takes a GPU; half precision or a few dozen bytes are soon made of a vector.
    """
    import faiss

    started = time.monotonic()
    index = _trained(vectors, plan, on_gpu=on_gpu)
    quantizer = faiss.index_cpu_to_gpu(_resources(), 0, index.quantizer) if on_gpu else index.quantizer
    for start in range(0, len(vectors), BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BLOCK])
        _, lists = quantizer.search(block, 1)
        index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(lists))
    log.info("built %s over %d vectors in %.1f s", plan.kind, len(vectors), time.monotonic() - started)
    return index


def _trained(vectors: Floats, plan: GpuPlan, *, on_gpu: bool) -> Any:
    """An empty CPU index of `plan`'s form, with the clusters of a sample of `vectors`."""
    import faiss

    dimension = vectors.shape[1]
    flat = faiss.IndexFlatIP(dimension)
    metric = faiss.METRIC_INNER_PRODUCT
    if plan.kind == "ivf-flat":
        half = faiss.ScalarQuantizer.QT_fp16
        index: Any = faiss.IndexIVFScalarQuantizer(flat, dimension, plan.lists, half, metric, False)
    else:
        index = faiss.IndexIVFPQ(flat, dimension, plan.lists, plan.code_bytes, 8, metric)
    if on_gpu:
        index = _moved(_resources(), index)
    index.cp.seed, index.cp.spherical = SEED, True
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = TRAINING_POINTS, 1
    size = min(len(vectors), max(TRAINING_POINTS * plan.lists, 256 * 64))
    index.train(vectors[np.sort(np.random.default_rng(SEED).choice(len(vectors), size, replace=False))])
    return faiss.index_gpu_to_cpu(index) if on_gpu else index


def _resources() -> Any:
    import faiss

    resources = faiss.StandardGpuResources()
    resources.setTempMemory(SCRATCH_BYTES)
    # PyTorch's work is on this stream too, so neither reads what the other has not yet written.
    resources.setDefaultNullStreamAllDevices()
    return resources


def _flat(resources: Any, vectors: Floats) -> Any:
    import faiss

    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    index = faiss.GpuIndexFlatIP(resources, vectors.shape[1], config)
    # At once: it reserves what a call adds and copies page by page, while each further call would move all there is
    # into new memory, twice the index at the end.
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def _moved(resources: Any, index: Any) -> Any:
    """`index` on the GPU, each list at its exact length."""
    import faiss

    options = faiss.GpuClonerOptions()
    # Inner-product tables in half precision: a fifth faster, and ranks are refined on the host anyway.
    options.useFloat16 = True
    return faiss.index_cpu_to_gpu(resources, 0, index, options)


def _stored(path: Path, vectors: Floats, plan: GpuPlan) -> tuple[Any, GpuPlan] | None:
    """The inverted file that was stored at indexing, and its plan; None where there is none that can be used.

    It was planned for the memory there was then. A smaller one than `plan` is used all the same, and the log says so; a
    larger one would not fit.
    """
    if not path.is_file():
        return None
    index = int8_codes.read(path, "IndexIVFScalarQuantizer", "IndexIVFPQ")
    if (index.ntotal, index.d) != vectors.shape:
        raise CollectionError(f"{path} holds {index.ntotal} vectors of {index.d} for {vectors.shape}; index again")
    kind: GpuKind = "ivf-pq" if type(index).__name__ == "IndexIVFPQ" else "ivf-flat"
    code = int(index.pq.code_size) if kind == "ivf-pq" else 0
    found = inverted_plan(kind, *vectors.shape, lists=index.nlist, code_bytes=code, reason="as it was stored")
    if found.nbytes > plan.nbytes:
        log.warning("%s is %s of %.2f GB, too large here: building %s", path, kind, found.nbytes / 1e9, plan.kind)
        return None
    if (kind, code) != (plan.kind, plan.code_bytes):
        log.warning(
            "%s is %s, smaller than the %s that would fit; index again for better recall", path, kind, plan.kind
        )
    return index, found


def _fewest(lists: int) -> int:
    """Clusters to read at the least: a 64th, which guards against a sample that is too easy."""
    return max(8, lists // 64)


def _set_probes(index: Any, probes: int) -> None:
    index.nprobe = min(probes, MAX_K, index.nlist)
