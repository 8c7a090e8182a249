"""Build: a corpus becomes a collection's new version.

Only documents that the version before has not, as they are now, are made into a segment: read, cut and tokenised (one
shard ahead, in a thread of its own) → encode → shard on disk → … → put together → index. What the corpus no longer has
is marked as deleted; then both are published in one step. Whatever stops it, finished shards stay, and the same call
goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import CollectionError, InputError
from ..recall.planning import Similarity
from ..text.tokenizer import Tokenizer
from . import assemble, versions
from .changes import KnownDocuments
from .checking import check_files
from .collection import open_version
from .corpus import open_corpus
from .document import Fields
from .encoding import Encode
from .making import SegmentMaker
from .manifest import FORMAT, CollectionManifest, CollectionModels, Counts, IndexSettings, digest, numbered
from .passage_text import PassageText
from .prepare import Preparer
from .report import BuildReport, Progress, silent
from .republish import is_tokenised, republish
from .shards import BuildJob
from .sources import Files

log = logging.getLogger(__name__)


def build(
    source: str | Path | Files,
    out: Path,
    *,
    encode: Encode,
    tokenizer: Tokenizer,
    reranker_tokenizer: Tokenizer | None,
    models: CollectionModels,
    settings: IndexSettings | None = None,
    fields: Fields | None = None,
    passage_prompt: str = "",
    reranker_before: str = "",
    similarity: Similarity = "cosine",
    threads: int | None = None,
    also_index: Callable[[Path, Progress], None] | None = None,
    progress: Progress = silent,
) -> BuildReport:
    """Index the corpus `source` (see `corpus.open_corpus`) into the collection folder `out`.

    `tokenizer` and `encode` are the bi-encoder's; `reranker_tokenizer` None leaves the collection without token ids for
    reranking; `models` is kept in the manifest, `passage_prompt` goes before each passage for the encoder and
    `reranker_before` for the reranker (see `PassageText`); `similarity` is how the vectors are compared.
    `also_index` may add files of its own to the version's folder, once its vectors are there.

    Does nothing when `out` already holds this very collection, every file as it was written; a damaged one is made
    again. Of a changed corpus only new and changed documents are encoded. Where only the reranker's token ids or the
    language of the words are others, nothing is.

    Raises CorpusError, InferenceError (a vector is not finite), StorageError (the disk refused; a second writer),
    CollectionError (`out` is something else), InputError (the language `other` without a reranker).
    """
    settings = settings or IndexSettings()
    started = time.perf_counter()
    _refuse_foreign(out)
    if settings.language == "other" and reranker_tokenizer is None:
        raise InputError(
            "the words of language `other` are the reranker's token ids, and there is no reranker: give one, name the "
            "language, or leave words out (--no-lexical)"
        )
    corpus = open_corpus(source, fields=fields or Fields(), skip_bad=settings.skip_bad)
    text = None
    if reranker_tokenizer is not None:
        text = PassageText(reranker_tokenizer, settings.rerank_title, reranker_before)
    preparer = Preparer(tokenizer, text, settings, passage_prompt)
    maker = SegmentMaker(encode, tokenizer, preparer, settings, similarity, threads, also_index, progress)
    key = _job_key(models, tokenizer, text, settings, passage_prompt)
    with versions.writer_lock(out):
        current = versions.read_current(out)
        base = current if current is not None and current.job == key and _is_sound(out, current) else None
        if base is not None:
            fits = (base.models, base.language) == (models, settings.language)
            if not fits or not is_tokenised(base, models, text):
                base = republish(out, base, models, text, settings.language, progress)
            if base.corpus == corpus.source.fingerprint:
                versions.tidy(out, base)  # an interrupted job of another corpus keeps its shards
                return BuildReport.of(out, base, unchanged=True, seconds=time.perf_counter() - started, corpus=corpus)
        known = KnownDocuments(None if base is None else open_version(out / versions.VERSIONS / base.version))
        before = base or current
        of = digest(key, corpus.source.fingerprint)
        job = BuildJob(out / versions.STAGING, before.version if before else None, of)
        folder = job.assembly()
        name = assemble.next_version(before, of)
        fresh, expected = known.fresh(iter(corpus)), None if base else corpus.source.size
        made = maker.make(job, fresh, folder / numbered(name), known.left, expected)
        change = known.left()
        if made is None and base is not None and not change.dropped:
            job.discard()
            versions.tidy(out, base)
            return BuildReport.of(out, base, unchanged=True, seconds=time.perf_counter() - started, corpus=corpus)
        segments = change.link(folder) + (() if made is None else (made.record,))
        manifest = CollectionManifest(
            version=name,
            parent=None if before is None else before.version,
            job=key,
            corpus=corpus.source.fingerprint,
            source=corpus.source.name,
            field_types=dict(corpus.source.field_types),
            counts=Counts(
                documents=change.documents + (0 if made is None else made.record.documents),
                passages=sum(segment.live for segment in segments),
                skipped=corpus.skipped,
            ),
            dimension=known.dimension if made is None else made.dimension,
            token_dtype=preparer.token_dtype,
            tokenized=None if text is None else text.source,
            models=models,
            settings=settings,
            chunk_tokens=preparer.limits.tokens,
            similarity=similarity,
            segments=segments,
        )
        versions.publish(out, folder, manifest, partial(assemble.check, before=change.before))
        versions.tidy(out, manifest)
    return BuildReport.of(
        out, manifest, made=made, kept=known.kept, removed=known.removed, seconds=time.perf_counter() - started,
        corpus=corpus,
    )  # fmt: skip


def _refuse_foreign(out: Path) -> None:
    """A collection goes into a new folder, an empty one, or one that holds a collection: never beside other files."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CollectionError(f"{out} is a file; give a folder for the collection")
    known = {versions.CURRENT, versions.VERSIONS, versions.STAGING, versions.LOCK}
    if (foreign := [entry.name for entry in out.iterdir()]) and not known & set(foreign):
        raise CollectionError(
            f"{out} holds other things ({foreign[0]!r}) and no collection; give a new or empty folder"
        )


def _job_key(
    models: CollectionModels,
    tokenizer: Tokenizer,
    text: PassageText | None,
    settings: IndexSettings,
    passage_prompt: str,
) -> str:
    """Hash of all but the corpus that the passages, their tokens and vectors depend on; their words are made anew
    without them."""
    reranker = text and [text.tokenizer.fingerprint, text.tokenizer.max_length, *filter(None, [text.before])]
    kept = settings.model_dump(exclude={"language", "skip_bad", "shard_size"})
    encoder = [models.encoder.fingerprint, models.encoder.precision, tokenizer.fingerprint, tokenizer.max_length]
    return digest(FORMAT, encoder, reranker, kept, passage_prompt)


def _is_sound(out: Path, current: CollectionManifest) -> bool:
    try:
        check_files(out / versions.VERSIONS / current.version, current)
    except CollectionError as error:
        log.warning("the collection is damaged and is made again: %s", error)
        return False
    return True
