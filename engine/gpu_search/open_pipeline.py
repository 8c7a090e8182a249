"""A pipeline of an open collection and its two packed models."""

from __future__ import annotations

from ...kernels.pack import PairForm
from ...kernels.scan import MAX_K, MAX_QUERIES, workspace
from ..collection import Collection
from ..errors import InputError
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..models.runtime.packed import PackedRuntime
from ..platform.device_errors import translated
from ..scoring.fusion import Fusion
from .buffers import Parts
from .device_store import Store
from .pipeline import Finder, Pipeline


def open_pipeline(
    collection: Collection,
    encoder: BiEncoder,
    reranker: CrossEncoder,
    fusion: Fusion,
    finder: Finder | None,
) -> Pipeline:
    """Vectors (unless `finder` holds them) and token store go up; the models are those of the runtimes, not copies."""
    own, other = encoder.runtime, reranker.runtime
    if not isinstance(own, PackedRuntime) or not isinstance(other, PackedRuntime):
        raise InputError("the resident pipeline needs both models on the packed runtime")
    device = own.model.device
    manifest = reranker.artifact.manifest
    if manifest.pair_text is not None:
        raise InputError(
            f"the resident pipeline joins pairs by special tokens, and {manifest.name} by words of its own"
        )
    form = PairForm.of(reranker.tokenizer.pair_template, manifest.max_length, device, pad_id=manifest.pad_id)
    store = Store.load(collection, device.type, vectors=finder is None)
    scratch = None
    if store.vectors is not None and device.type == "cuda":
        with translated("the scan's workspace"):
            scratch = workspace(len(store.vectors), MAX_QUERIES, MAX_K, device)
    parts = Parts(
        encoder=own.model,
        reranker=other.model,
        store=store,
        form=form,
        normalize=encoder.artifact.manifest.similarity == "cosine",
        weight=fusion.recall_weight,
        lexical_weight=fusion.lexical_weight,
        recall_scale=fusion.recall_scale,
        words=collection.lexical is not None and fusion.lexical_weight > 0,
        encoder_buffers=own.buffers,
        reranker_buffers=other.buffers,
        scratch=scratch,
    )
    return Pipeline(parts, finder)
