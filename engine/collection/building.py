"""Build: a corpus becomes a collection's new version.

Read, chunk and tokenise (one shard ahead, in a thread of its own) → encode → shard on disk → … → put together → index →
publish. Whatever stops it, finished shards stay; the same call goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import CollectionError, InputError
from ..recall.planning import Similarity
from ..text.tokenizer import Tokenizer
from . import assemble, versions
from .checking import check_files
from .collection import read_current
from .corpus import Corpus, open_corpus
from .document import Fields
from .encoding import Encode, Encoding
from .lexical_files import write_words
from .manifest import FORMAT, CollectionManifest, CollectionModels, IndexSettings, digest
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
    again. Where only the reranker's token ids or the language of the words are others, nothing is encoded.

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
    key = _job_key(corpus, models, tokenizer, text, settings, passage_prompt)
    with versions.writer_lock(out):
        current = read_current(out)
        job = BuildJob(out / versions.STAGING, key)
        if current is not None and current.job == key and _is_sound(out, current):
            if (current.models, current.language) != (models, settings.language) or not is_tokenised(
                current, models, text
            ):
                current = republish(out, current, models, text, settings.language, progress)
            versions.tidy(out, current, job.folder)  # an interrupted job of another corpus keeps its shards
            seconds = time.perf_counter() - started
            return BuildReport.of(out, current, unchanged=True, seconds=seconds, corpus=corpus)
        done = job.begin()
        encoding = Encoding(encode, corpus, preparer, job, settings.shard_size, progress, similarity)
        shards = encoding.run(done)
        folder = assemble.arrays(job, shards, preparer, progress)
        index = assemble.index(folder, encode, tokenizer, similarity, threads, progress)
        if settings.language is not None:
            write_words(folder, settings.language, preparer.token_dtype, progress)
        if also_index is not None:
            also_index(folder, progress)
        manifest = CollectionManifest(
            version=assemble.next_version(current, key),
            parent=None if current is None else current.version,
            job=key,
            source=corpus.source.name,
            field_types=dict(corpus.source.field_types),
            counts=assemble.counts(shards, corpus.skipped),
            dimension=encoding.dimension,
            token_dtype=preparer.token_dtype,
            tokenized=None if text is None else text.source,
            models=models,
            settings=settings,
            chunk_tokens=preparer.limits.tokens,
            index=index,
            files=assemble.file_records(sorted(folder.iterdir()), progress),
        )
        versions.publish(out, folder, manifest, assemble.check)
        versions.tidy(out, manifest)
    return BuildReport.of(
        out, manifest, resumed=sum(shard.passages for shard in done), encode_seconds=encoding.seconds,
        seconds=time.perf_counter() - started, corpus=corpus,
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
    corpus: Corpus,
    models: CollectionModels,
    tokenizer: Tokenizer,
    text: PassageText | None,
    settings: IndexSettings,
    passage_prompt: str,
) -> str:
    """Hash of everything the passages, their tokens and vectors depend on; their words are made anew without them."""
    reranker = text and [text.tokenizer.fingerprint, text.tokenizer.max_length, *filter(None, [text.before])]
    kept = settings.model_dump(exclude={"language"})
    encoder = [models.encoder.fingerprint, models.encoder.precision, tokenizer.fingerprint, tokenizer.max_length]
    return digest(FORMAT, corpus.source.fingerprint, encoder, reranker, kept, passage_prompt)


def _is_sound(out: Path, current: CollectionManifest) -> bool:
    try:
        check_files(out / versions.VERSIONS / current.version, current)
    except CollectionError as error:
        log.warning("the collection is damaged and is made again: %s", error)
        return False
    return True
