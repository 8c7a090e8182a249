"""The same passages and vectors as a new version, for another reranker or with other words: nothing is encoded and
nothing copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..recall.lexical_index import PREFIX
from ..recall.words import Language
from . import assemble, versions
from .changes import link_segment
from .lexical_files import write_words
from .manifest import CollectionManifest, CollectionModels, SegmentRecord, numbered
from .passage_text import PassageText
from .prepare import DOCUMENTS
from .ragged import Ragged
from .report import Progress
from .shards import BuildJob
from .token_files import TOKEN_FILES, TokenWriter


def is_tokenised(current: CollectionManifest, models: CollectionModels, text: PassageText | None) -> bool:
    """Whether the version `current` holds the token ids that the reranker of `models` reads as `text`, and no others.

    None: there is no reranker, and there should be no ids.
    """
    if text is None or models.reranker is None:
        return current.token_dtype is None
    return current.has_ids_of(text.source, models.reranker.fingerprint)


def republish(
    root: Path,
    current: CollectionManifest,
    models: CollectionModels,
    text: PassageText | None,
    language: Language | None,
    progress: Progress,
) -> CollectionManifest:
    """Publish the version `current` of the collection `root` once more, with these `models` and words of `language`.

    Passages are tokenised as `text` says where the version does not hold such ids; None: it holds none. Their words are
    indexed where it does not hold those of `language`; None: it holds none. All other files
    are hard links: a version's files never change, so two versions may own the same ones. The caller holds the writer
    lock. Raises StorageError, InferenceError or CollectionError, with the old version still current.
    """
    source = root / versions.VERSIONS / current.version
    job = BuildJob(root / versions.STAGING, current.version, current.job)
    folder = job.assembly()
    fits = is_tokenised(current, models, text)
    worded = current.language == language and (fits or language != "other")
    dtype = None if text is None else text.token_dtype

    def made_anew(name: str) -> bool:
        return (not fits and name in TOKEN_FILES) or (not worded and name.startswith(PREFIX))

    def again(record: SegmentRecord) -> SegmentRecord:
        own = folder / (record.name or numbered(current.version))
        linked = link_segment(source / record.name, own, record, leave_out=frozenset(filter(made_anew, record.files)))
        if text is not None and not fits:
            _tokenise(own, text, progress)
        if language is not None and not worded:
            write_words(own, language, dtype, progress)
        fresh = [file for file in sorted(own.iterdir()) if file.name not in linked.files]
        return linked.model_copy(update={"files": linked.files | assemble.file_records(fresh, progress)})

    manifest = current.model_copy(
        update={
            "version": assemble.next_version(current, current.job), "parent": current.version, "models": models,
            "token_dtype": dtype, "settings": current.settings.model_copy(update={"language": language}),
            "tokenized": None if text is None else text.source, "segments": tuple(map(again, current.segments)),
        }
    )  # fmt: skip
    versions.publish(root, folder, manifest, assemble.check)
    versions.tidy(root, manifest)
    return manifest


def _tokenise(folder: Path, text: PassageText, progress: Progress) -> None:
    """Write the token files of the passages in a segment's `folder`."""
    titles, texts = (Ragged.open(folder / name, np.uint8) for name in ("titles", "texts"))
    writer = TokenWriter(folder, text.token_dtype, text.tokenizer.vocab_size)
    try:
        for start in range(0, len(texts), DOCUMENTS):
            progress(start, len(texts), "tokenising")
            rows = np.arange(start, min(start + DOCUMENTS, len(texts)))
            writer.append(text.encode(titles.strings(rows), texts.strings(rows)))
        progress(len(texts), len(texts), "tokenising")
        writer.close()
    finally:
        writer.abandon()
