"""From artifacts and a corpus to a collection: `tandem index`, as one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from ..collection import BuildReport, CollectionModels, Fields, Files, IndexSettings, ModelRecord, Progress, build
from ..collection.passage_text import text_before
from ..collection.report import silent
from ..models.artifact import Artifact, Precision
from ..models.encoder import BiEncoder
from ..platform import cuda_driver
from ..platform.device import choose
from ..platform.device_errors import translated
from ..platform.npy import open_array
from ..recall import gpu_faiss, int8_codes
from ..recall.gpu_planning import plan_gpu
from ..recall.index import VECTORS


def index_corpus(
    corpus: str | Path | Files,
    out: str | Path,
    *,
    encoder: str | Path,
    reranker: str | Path | None = None,
    precision: Precision | Literal["auto"] = "auto",
    device: str = "auto",
    threads: int | None = None,
    fields: Fields | None = None,
    settings: IndexSettings | None = None,
    progress: Progress = silent,
) -> BuildReport:
    """Index `corpus` (see `collection.open_corpus`) into the folder `out` with the artifacts `encoder` and `reranker`.

    Without a reranker the collection answers by recall alone. Interrupted, the same call goes on where it stopped; with
    nothing changed it does nothing.

    Raises CorpusError, ArtifactError, CollectionError, DeviceError, InputError, InferenceError, OutOfMemory or
    StorageError.
    """
    out = Path(out)
    chosen = choose(device, threads)
    bi_encoder = BiEncoder(Artifact.open(encoder, kind="bi-encoder"), chosen, precision, split="sequences")
    bi_encoder.warm_up()  # half a second, to encode the corpus in this machine's best micro-batches
    cross = None if reranker is None else Artifact.open(reranker, kind="cross-encoder")
    models = CollectionModels(
        encoder=model_record(bi_encoder.artifact, out, bi_encoder.precision),
        reranker=None if cross is None else model_record(cross, out),
    )
    return build(
        corpus,
        out,
        encode=bi_encoder.encode,
        tokenizer=bi_encoder.tokenizer,
        reranker_tokenizer=None if cross is None else cross.tokenizer(),
        models=models,
        settings=settings,
        fields=fields,
        passage_prompt=bi_encoder.prompting.prompts.passage,
        reranker_before="" if cross is None else text_before(cross.manifest),
        similarity=bi_encoder.artifact.manifest.similarity,
        threads=chosen.threads,
        also_index=_store_for_gpu if chosen.kind == "cuda" else None,
        progress=progress,
    )


def _store_for_gpu(folder: Path, progress: Progress) -> None:
    """Where the vectors will be searched through an inverted file on a GPU: train it now, so that opening is a copy.

    Planned for this machine's memory, of which half is left to models and token store. Raises OutOfMemory or
    DeviceError.
    """
    vectors = open_array(folder / VECTORS, np.float32, 2)
    card, can = cuda_driver.find(), cuda_driver.faiss_problem() is None
    room = None if isinstance(card, str) else card.memory // 2
    rows, dimension = vectors.shape
    plan = plan_gpu(rows, dimension, room, kernels=cuda_driver.torch_problem() is None, faiss=can)
    if isinstance(plan, str) or not plan.kind.startswith("ivf"):
        return
    progress(0, None, "training for the GPU")
    with translated(f"training {plan.kind} over {rows} vectors"):
        index = gpu_faiss.build(vectors, plan, on_gpu=True)
    int8_codes.write(index, folder / gpu_faiss.STORED)


def model_record(artifact: Artifact, out: Path, precision: Precision | None = None) -> ModelRecord:
    """What the collection `out` keeps of an artifact."""
    return ModelRecord(
        name=artifact.manifest.name,
        fingerprint=artifact.fingerprint,
        path=os.path.relpath(artifact.path.resolve(), out.resolve()),
        precision=precision,
    )
