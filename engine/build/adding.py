"""Documents into a collection that is there: `tandem add`, as one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..collection import Collection, Fields, Files, Progress
from ..collection.corpus import is_python, open_corpus
from ..collection.making import maker_for
from ..collection.report import silent
from ..collection.updating import Updated, add
from ..models.encoder import BiEncoder
from ..platform.device import choose
from ..search.model_lookup import encoder_of, reranker_of


def add_corpus(
    collection: str | Path,
    corpus: str | Path | Files,
    *,
    encoder: str | Path | None = None,
    reranker: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    fields: Fields | None = None,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> Updated:
    """Add the documents of `corpus` (see `collection.open_corpus`) to the folder `collection`; one whose id is there
    replaces what is there, and one that is there as it is, is left.

    encoder, reranker: where the collection's models are, when they are no longer where it remembers them
    Raises CorpusError, ArtifactError, CollectionError, DeviceError, InferenceError, OutOfMemory or StorageError.
    """
    chosen = choose(device, threads)
    opened = Collection.open(collection, threads=chosen.threads)
    named = fields or Fields()
    # A column keeps the type that it has here, whatever the new rows alone look like.
    known = {} if is_python(corpus) else opened.manifest.field_types
    types = {**known, **named.types}
    documents = open_corpus(corpus, fields=replace(named, types=types), skip_bad=skip_bad)
    precision = opened.manifest.models.encoder.precision or "auto"
    bi_encoder = BiEncoder(encoder_of(opened, encoder), chosen, precision, split="sequences")
    stored = opened.manifest.token_dtype is not None
    artifact = reranker_of(opened, reranker) if stored else None
    maker = maker_for(
        opened, bi_encoder.encode, bi_encoder.artifact, artifact, threads=chosen.threads, progress=progress
    )
    return add(opened, documents, maker)[0]
