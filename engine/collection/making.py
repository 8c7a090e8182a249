"""New documents become a segment: read, cut, tokenised (one shard ahead, in a thread of its own), encoded, indexed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import CollectionError, CorpusError
from ..models.artifact import Artifact
from ..platform.durable_io import storage
from ..recall.planning import Similarity
from ..text.tokenizer import Tokenizer
from . import assemble
from .changes import Change
from .collection import Collection
from .document import Document
from .encoding import Encode, Encoding, Vectors
from .lexical_files import write_words
from .manifest import IndexSettings, SegmentRecord
from .passage_text import PassageText
from .prepare import Preparer
from .ragged import Ragged
from .report import Made, Progress, silent
from .shards import BuildJob, Finished

CHUNKED = re.compile(r".*#\d+", re.DOTALL)
"""Ids that a chunk of another document may have too."""


@dataclass(frozen=True, slots=True)
class SegmentMaker:
    """What new passages are made with.

    encode, tokenizer: the bi-encoder's; preparer: cuts and tokenises for both models
    also_index: may add files of its own to the segment's folder, once its vectors are there
    """

    encode: Encode
    tokenizer: Tokenizer
    preparer: Preparer
    settings: IndexSettings
    similarity: Similarity = "cosine"
    threads: int | None = None
    also_index: Callable[[Path, Progress], None] | None = None
    progress: Progress = field(default=silent)

    def make(
        self, job: BuildJob, documents: Iterator[Document], folder: Path, change: Callable[[], Change],
        total: int | None = None,
    ) -> Made | None:  # fmt: skip
        """Encode `documents` and write their segment into `folder`.

        change: what is left of other segments, asked once all documents are read; total: documents to expect
        None: there was no document. What is encoded stays with the `job` if this is interrupted.
        Raises InferenceError, StorageError, whatever reading a document raises, and CorpusError where a passage has the
        id of one that is left.
        """
        done = job.begin()
        encoding = Encoding(
            self.encode, self.preparer, job, self.settings.shard_size, self.progress, self.similarity, total
        )
        shards = encoding.run(documents, done)
        if not shards:
            return None
        with storage(folder):
            folder.mkdir(parents=True)
        count = sum(shard.passages for shard in shards)
        vocabulary = None if self.preparer.reranker is None else self.preparer.reranker.tokenizer.vocab_size
        parts = (job.read(number) for number in range(len(shards)))
        assemble.arrays(folder, parts, vocabulary, count, self.progress)
        left = change()
        check_ids(folder, left)
        record = self._indexed(folder, shards, count, left.passages)
        return Made(record, encoding.dimension, sum(shard.passages for shard in done), encoding.seconds)

    def _indexed(self, folder: Path, shards: list[Finished], count: int, beside: int) -> SegmentRecord:
        plan = assemble.index(
            folder, beside, lambda: self._sample(folder), self.similarity, self.threads, self.progress
        )
        if self.settings.language is not None:
            write_words(folder, self.settings.language, self.preparer.token_dtype, self.progress)
        if self.also_index is not None:
            self.also_index(folder, self.progress)
        return SegmentRecord(
            name=folder.name,
            documents=sum(shard.documents for shard in shards),
            passages=count,
            index=plan,
            files=assemble.file_records(sorted(folder.iterdir()), self.progress),
        )

    def _sample(self, folder: Path) -> Vectors:
        return self.encode(assemble.sample_queries(folder, self.tokenizer))


def maker_for(
    collection: Collection,
    encode: Encode,
    encoder: Artifact,
    reranker: Artifact | None,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> SegmentMaker:
    """What adds passages to `collection`, cut and read as those that it has.

    encode: of `encoder`, the collection's; reranker: one whose token ids are those that the collection stores
    Raises CollectionError where it is another.
    """
    manifest = collection.manifest
    text = None
    if manifest.token_dtype is not None:
        text = None if reranker is None else PassageText.of(reranker, manifest.settings)
        if reranker is None or text is None or not manifest.has_ids_of(text.source, reranker.fingerprint):
            raise CollectionError(
                f"the token ids that {collection.path} stores are another reranker's: name the one that it was indexed "
                f"with, or give it this one first (tandem retokenize {collection.path} --reranker FOLDER)"
            )
    same = {"language": manifest.language, "chunk_tokens": manifest.chunk_tokens}
    settings = manifest.settings.model_copy(update=same)
    tokenizer = encoder.tokenizer()
    preparer = Preparer(tokenizer, text, settings, encoder.manifest.prompting.prompts.passage)
    return SegmentMaker(encode, tokenizer, preparer, settings, manifest.similarity, threads, progress=progress)


def check_ids(folder: Path, change: Change) -> None:
    """Raises CorpusError where a new passage in `folder` has the id of one that is left.

    A document's own passages are gone by now; so it is another one's chunk, or is called like one.
    """
    before = change.before
    if before is None:
        return
    ids = Ragged.open(folder / "ids", np.uint8)
    for row in range(len(ids)):
        name = ids[row].tobytes().decode()
        if not CHUNKED.fullmatch(name):
            continue
        for segment, start in before.spans:
            found = segment.find(name.encode())
            if found is not None and change.has(start + found):
                raise CorpusError(assemble.SAME_ID.format(name=name))
