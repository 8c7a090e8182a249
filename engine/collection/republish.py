"""The same passages and vectors as a new version, for another reranker or with other words: nothing is encoded and
nothing copied."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..platform.durable_io import storage
from ..recall.lexical_index import PREFIX
from ..recall.words import Language
from . import assemble, versions
from .lexical_files import write_words
from .manifest import CollectionManifest, CollectionModels
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
    job = BuildJob(root / versions.STAGING, current.job)
    job.begin()
    folder = job.assembly()
    fits = is_tokenised(current, models, text)
    worded = current.language == language and (fits or language != "other")
    files = {
        name: record
        for name, record in current.files.items()
        if (fits or name not in TOKEN_FILES) and (worded or not name.startswith(PREFIX))
    }
    with storage(folder):
        for name in files:
            os.link(source / name, folder / name)
    if text is not None and not fits:
        _tokenise(source, folder, text, progress)
    token_dtype = None if text is None else text.token_dtype
    if language is not None and not worded:
        write_words(folder, language, token_dtype, progress)
    fresh = [file for file in sorted(folder.iterdir()) if file.name not in files]
    files |= assemble.file_records(fresh, progress)
    version = assemble.next_version(current, current.job)
    manifest = current.model_copy(
        update={
            "version": version, "parent": current.version, "models": models, "files": files,
            "token_dtype": token_dtype, "settings": current.settings.model_copy(update={"language": language}),
            "tokenized": None if text is None else text.source,
        }
    )  # fmt: skip
    versions.publish(root, folder, manifest, assemble.check)
    versions.tidy(root, manifest, job.folder)
    return manifest


def _tokenise(source: Path, folder: Path, text: PassageText, progress: Progress) -> None:
    """Write the token files of the passages in the folder `source` into `folder`."""
    titles, texts = (Ragged.open(source / name, np.uint8) for name in ("titles", "texts"))
    writer = TokenWriter(folder, text)
    try:
        for start in range(0, len(texts), DOCUMENTS):
            progress(start, len(texts), "tokenising")
            rows = np.arange(start, min(start + DOCUMENTS, len(texts)))
            writer.append(text.encode(titles.strings(rows), texts.strings(rows)))
        progress(len(texts), len(texts), "tokenising")
        writer.close()
    finally:
        writer.abandon()
