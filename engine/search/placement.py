"""Where recall and the pipeline of an engine run: decided when it opens, with the reasons that are logged and shown."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..collection import Collection
from ..config import EngineSettings
from ..errors import InputError
from ..models.artifact import Artifact
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..models.memory import Chosen
from ..models.runtime import choose
from ..models.runtime.select import PrecisionWish
from ..platform import cuda_driver
from ..platform.device import Device
from ..recall import Filtered, RowMask
from ..recall.gpu_planning import GpuPlan
from ..recall.nearest import Nearest
from ..scheduling.batcher import Batcher
from ..scoring.fusion import Fusion
from .gpu_memory import MemoryPlan, available_memory, plan

if TYPE_CHECKING:  # these need PyTorch or a GPU, which an engine on a CPU does not
    from ..gpu_search.device_index import DeviceIndex
    from ..gpu_search.pipeline import Pipeline
    from ..gpu_search.requests import Searches
    from ..recall.gpu_faiss import GpuFaiss

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """What searches: `index` for a search stage by stage, `pipeline` for a resident one; `reasons` by their names."""

    collection: Collection
    index: Nearest
    pipeline: Pipeline | None
    reasons: dict[str, str]
    exact: DeviceIndex | None = None
    """Our scan on the device, where it is what recalls: it honours filters, as FAISS's GPU indexes do not."""

    def under(self, allowed: RowMask) -> Nearest:
        """What recalls under a filter: our scan on the device, or the host's index."""
        if self.exact is not None:
            return self.exact.under(allowed)
        return Filtered(self.collection.index, allowed)

    def searches(self, batcher: Batcher) -> Searches | None:
        """Resident searches on the thread of `batcher`, where there is a pipeline."""
        if self.pipeline is None:
            return None
        from ..gpu_search.requests import Searches

        return Searches(self.pipeline, self.collection.lexicon, batcher)


def plan_memory(
    collection: Collection,
    encoder: Artifact,
    reranker: Artifact | None,
    device: Device,
    settings: EngineSettings,
    *,
    stored: bool = True,
    loaded: frozenset[str] = frozenset(),
    taken: int = 0,
) -> MemoryPlan | None:
    """The memory plan, checked; None on a CPU. `stored`: whether the collection's token ids are this reranker's.

    loaded: fingerprints of the models that are on the device already; taken: bytes that other engines of this process
            planned, where `gpu_memory_gib` says how much all of them may have

    Raises DeviceError when the engine does not fit beside what is there, and what `runtime.choose` raises.
    """
    if device.kind == "cpu":
        return None
    available, capacity = available_memory(device, settings.gpu_memory_gib)
    if settings.gpu_memory_gib is not None and available is not None:
        available = max(0, available - taken)

    def chosen(artifact: Artifact, precision: PrecisionWish) -> Chosen:
        return Chosen(artifact, choose(settings.runtime, artifact, device, precision, ()))

    planned = plan(
        collection,
        chosen(encoder, settings.encoder_precision),
        None if reranker is None else chosen(reranker, settings.reranker_precision),
        available=available,
        capacity=capacity,
        stored=stored,
        loaded=loaded,
        kernels=cuda_driver.torch_problem() is None,
        faiss=cuda_driver.faiss_problem() is None,
    )
    planned.check()
    return planned


def place(
    collection: Collection,
    encoder: BiEncoder,
    reranker: CrossEncoder | None,
    device: Device,
    settings: EngineSettings,
    memory: MemoryPlan | None,
    fusion: Fusion,
    *,
    unstored: str | None = None,
) -> Placed:
    """Put vectors and token store where they are searched. Raises InputError, DeviceError or OutOfMemory.

    unstored: why the collection's token ids are not this reranker's (see `passage_ids.unstored`); None: they are
    """
    problem = pipeline_problem(encoder, reranker, device, settings, unstored) or _marked(collection)
    if problem is not None and settings.pipeline == "resident":
        raise InputError(f"the resident pipeline cannot run here: {problem}; use pipeline=auto")
    if memory is None:
        kind = _kinds(collection)
        pipeline = None
        if problem is None and reranker is not None:
            pipeline = _pipeline(collection, encoder, reranker, fusion, None)
        return _reported(collection, collection.index, f"on the CPU, {kind}", pipeline, problem)
    if isinstance(memory.recall, str):
        return _reported(collection, collection.index, f"on the CPU: {memory.recall}", None, problem or memory.recall)
    finder = _finder(collection, memory.recall) if memory.recall.faiss else None
    planned = memory.recall if finder is None else finder.plan
    said = f"{planned.kind}: {planned.reason}" + ("" if finder is None else f"; {finder.recall}")
    if problem is not None or reranker is None:
        exact = None if finder else _device_index(collection)
        live = None if exact is None or collection.live is None else exact.under(collection.live)
        return _reported(collection, finder or live or exact, said, None, problem, exact)
    pipeline = _pipeline(collection, encoder, reranker, fusion, finder)
    exact = None if finder else _index_of(pipeline)
    return _reported(collection, finder or exact, said, pipeline, None, exact)


def pipeline_problem(
    encoder: BiEncoder,
    reranker: CrossEncoder | None,
    device: Device,
    settings: EngineSettings,
    unstored: str | None = None,
) -> str | None:
    """Why a search goes stage by stage, None when it can be resident."""
    if settings.pipeline == "staged":
        return "stages were asked for"
    if settings.pipeline == "auto" and device.kind == "cpu":
        return "on a CPU the stages are the fast way"
    if reranker is None:
        return "the collection has no reranker"
    if reranker.artifact.manifest.pair_text is not None:
        return f"{reranker.artifact.manifest.name} reads a pair in words of its own, which are joined on the host"
    if unstored is not None:
        return unstored
    for model in (encoder, reranker):
        if model.choice.runtime != "packed":
            return f"{model.artifact.manifest.name} runs on ONNX Runtime ({model.choice.reason})"
    if reranker.tokenizer.side != "right" or encoder.tokenizer.side != "right":
        return "a model cuts long texts on the left, and the device cuts them on the right"
    if reranker.tokenizer.pair_template.whole_first:
        return f"{reranker.artifact.manifest.name} reads a template, whose pairs the device does not cut"
    return None


def _marked(collection: Collection) -> str | None:
    """What of a collection keeps a search from being resident."""
    if not len(collection):
        return "there is no passage"
    if collection.live is not None:
        return f"passages are marked as deleted, which `tandem merge {collection.path}` takes out"
    return None


def _kinds(collection: Collection) -> str:
    """How the segments are searched on the host, in words."""
    kinds = Counter(segment.record.index.kind for segment in collection.segments)
    if len(collection.segments) == 1:
        return next(iter(kinds))
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{len(collection.segments)} segments ({said or 'no passage'})"


def _reported(
    collection: Collection,
    index: Any,
    recall: str,
    pipeline: Pipeline | None,
    problem: str | None,
    exact: DeviceIndex | None = None,
) -> Placed:
    how = "resident: a whole search on the device" if pipeline is not None else f"staged: {problem}"
    log.info("recall %s; pipeline %s", recall, how)
    return Placed(collection, index, pipeline, {"recall": recall, "pipeline": how}, exact)


def _pipeline(
    collection: Collection, encoder: BiEncoder, reranker: CrossEncoder, fusion: Fusion, finder: Any
) -> Pipeline:
    from ..gpu_search.open_pipeline import open_pipeline

    return open_pipeline(collection, encoder, reranker, fusion, finder)


def _device_index(collection: Collection) -> DeviceIndex:
    from ..gpu_search.device_index import DeviceIndex
    from ..gpu_search.device_store import upload_vectors

    return DeviceIndex(upload_vectors(collection, "cuda"))


def _index_of(pipeline: Pipeline) -> DeviceIndex:
    from ..gpu_search.device_index import DeviceIndex

    stored = pipeline.parts.store.vectors
    if stored is None:
        raise RuntimeError("a pipeline without a finder holds the vectors")
    return DeviceIndex(stored)


def _finder(collection: Collection, planned: GpuPlan) -> GpuFaiss:
    from ..recall.gpu_faiss import GpuFaiss

    (segment,) = collection.segments  # see `gpu_memory.plan`
    built = segment.record.index
    # Without a sample the same share of the passages: clusters on a GPU are smaller than those that the host's probes
    # were measured on.
    probes = 0 if built.kind != "ivf" else math.ceil(built.probes * max(1.0, planned.lists / max(1, built.lists)))
    return GpuFaiss.open(segment.folder, segment.index.vectors, planned, probes=probes)
