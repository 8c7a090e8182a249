"""The passages that hold a question's words: an inverted index of tantivy, scored by BM25.

tantivy wants a folder of its own that it may write to: it locks a file there each time an index is opened. A version's
files never change, and may lie on a disk that is only read. So they are opened through links in a temporary folder,
which is gone again when the files are mapped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tantivy

from ..errors import CollectionError, StorageError
from .exact import Floats, Rows
from .row_mask import RowMask
from .words import Language, analyser

PREFIX = "lexical."
"""Before tantivy's names of the files, among a version's others."""
META = "meta.json"
K1, B = 1.2, 0.75
"""BM25's constants, which are fixed in tantivy: saturation of repeats, weight of the length."""
MEMORY = 256_000_000
"""Bytes that are gathered before a segment is written: 300,000 passages or so."""
LITTLE, LITTLE_PASSAGES = 15_000_000, 10_000
"""The least that tantivy takes, for so many passages: it is allocated at once."""
SHARED_MEMORY = "/dev/shm"
"""Where making and removing thirty links takes a millisecond, and on a disk 60."""
CHARACTERS = 16_384
"""Of a question that are looked up, some 2,700 words: 3 ms."""
TERMS = 64
"""Distinct words of a question that are looked up: its rarest, should it have more."""
POSTINGS = 2_000_000
"""Passages that these words together may occur in, the rarest counted first; each takes 3 to 5 ns. The commonest words
of a million passages are left out by this, and change the order little."""
FEW = 4096
"""Up to so many allowed passages are looked up one by one, 2 to 5 us each; of more the best are searched for, until
enough of those found are allowed."""
WIDEN = 4


class LexicalIndex:
    """The words of `n` passages, a memory map. Any number of threads may search; they do not wait for each other."""

    def __init__(
        self, index: tantivy.Index, language: Language, starts: Sequence[int] = (0,), live: RowMask | None = None
    ) -> None:
        """starts: the row that each of tantivy's segments counts from; live: what is not deleted, None: all"""
        self.language = language
        self._schema = index.schema
        self._searcher = index.searcher()
        self._analyser = analyser(language)
        self._starts = np.array(starts, dtype=np.int64)
        self._live = live

    @classmethod
    def open(cls, folders: Sequence[Path], language: Language, live: RowMask | None = None) -> LexicalIndex:
        """What `LexicalWriter`s wrote into `folders`, as one index: words are as rare as they are in all of it.

        Rows count through the folders. In these nothing is written. live: the passages that are not deleted; None: all.
        How rare words are still counts the deleted ones. Raises CollectionError when a folder cannot be read.
        """
        if not folders:
            return cls.of([], language)
        try:
            with tempfile.TemporaryDirectory(
                prefix="tandem-words-", dir=_links_at(), ignore_cleanup_errors=True
            ) as links:
                starts = _link(folders, Path(links))
                index = tantivy.Index.open(links)
                index.config_reader("manual")  # else a thread of tantivy's waits for changes in the folder
                return cls(index, language, starts, live)
        except (ValueError, OSError, KeyError) as error:
            where = ", ".join(map(str, folders))
            raise CollectionError(f"{where}: no words that can be searched ({error}); index again") from error

    @classmethod
    def of(cls, texts: Iterable[str], language: Language) -> LexicalIndex:
        """Of these passages, in memory; of the language `other` as `words.of_ids` makes them."""
        index = _empty(language)
        writer = index.writer(MEMORY, 1)
        for row, text in enumerate(texts):
            writer.add_document(_document(row, text))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        return cls(index, language)

    def __len__(self) -> int:
        return self._searcher.num_docs

    def search(self, text: str, k: int, allowed: RowMask | None = None) -> tuple[Rows, Floats]:
        """The `k` passages with the highest BM25 for the words of `text`, fewer where fewer hold one of them.

        text: what was asked, as it is (no query language); of the language `other` as `words.of_ids` makes it
        allowed: the only passages that count, none of them deleted
        returns: rows int64 [m]; shares float32 [m] from 0 to 1, falling, ties by row: BM25 as in Robertson & Zaragoza
                 2009, each word once, divided by the most that a passage with all the words of `text` could have, so
                 that one weight fits short and long questions
        """
        allowed = self._live if allowed is None else allowed
        found = {word: self._holding(word) for word in sorted(set(self._analyser.analyze(text[:CHARACTERS])))}
        words = _rarest(found)
        k = min(k, len(self) if allowed is None else allowed.count)
        if not words or k < 1:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        terms = [tantivy.Query.term_query(self._schema, "words", word, "freq") for word in words]
        query = tantivy.Query.boolean_query([(_SHOULD, term) for term in terms])
        rows, scores = self._best(query, k) if allowed is None else self._allowed(query, k, allowed)
        most = (K1 + 1.0) * sum(_rarity(holding, len(self)) for holding in found.values())
        order = np.lexsort((rows, -scores))
        return rows[order], (scores[order] / most).astype(np.float32)

    def _holding(self, word: str) -> int:
        return self._searcher.doc_freq("words", word)

    def _best(self, query: tantivy.Query, limit: int) -> tuple[Rows, Floats]:
        hits = self._searcher.search(query, limit, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        starts = self._starts[[address.segment_ord for _, address in hits]]
        return starts + np.array(rows, dtype=np.int64), np.array([score for score, _ in hits], dtype=np.float32)

    def _allowed(self, query: tantivy.Query, k: int, allowed: RowMask) -> tuple[Rows, Floats]:
        limit = 2 * k * len(self) // allowed.count
        if allowed.count <= FEW:
            query, limit = self._among(query, allowed.rows), k
        while True:
            limit = min(limit, len(self))
            rows, scores = self._best(query, limit)
            kept = np.flatnonzero(allowed.holds(rows))[:k]
            if len(kept) == k or len(rows) < limit or limit == len(self):
                return rows[kept], scores[kept]
            limit *= WIDEN

    def _among(self, query: tantivy.Query, rows: Rows) -> tantivy.Query:
        """`query` among `rows`, and among those of the same number in other segments, which count from 0 too."""
        starts = np.unique(self._starts)
        own = np.unique(rows - starts[np.searchsorted(starts, rows, side="right") - 1])
        those = tantivy.Query.term_set_query(self._schema, "row", own.tolist())
        among = tantivy.Query.const_score_query(those, 0.0)
        return tantivy.Query.boolean_query([(_MUST, among), (_MUST, query)])


class LexicalWriter:
    """Writes the words of a version's passages, in the order of their rows."""

    def __init__(self, folder: Path, language: Language, passages: int) -> None:
        """`passages` that are expected."""
        self._folder = folder
        self._own = folder / f".{PREFIX}building"
        self._rows = 0
        with _writing(folder):
            self._own.mkdir()
            memory = LITTLE if passages <= LITTLE_PASSAGES else MEMORY
            self._writer = _empty(language, self._own).writer(memory, 1)

    def append(self, text: str) -> None:
        """The next passage; of the language `other` as `words.of_ids` makes it. Raises StorageError."""
        with _writing(self._folder):
            self._writer.add_document(_document(self._rows, text))
        self._rows += 1

    def close(self) -> None:
        """Finish the files, under their names in the version's folder. Raises StorageError."""
        with _writing(self._folder):
            self._writer.commit()
            self._writer.wait_merging_threads()
            meta = (self._own / META).read_text()
            # Segments are called by random numbers; counted, an index of the same passages has the same files.
            for number, segment in enumerate(json.loads(meta)["segments"]):
                name, counted = uuid.UUID(segment["segment_id"]), uuid.UUID(int=number)
                meta = meta.replace(str(name), str(counted))
                for file in self._own.glob(f"{name.hex}.*"):
                    file.rename(self._folder / f"{PREFIX}{counted.hex}{file.suffix}")
            (self._folder / f"{PREFIX}{META}").write_text(meta)
            shutil.rmtree(self._own)


_ANALYSER = "tandem"
_MUST, _SHOULD = tantivy.Occur.Must, tantivy.Occur.Should


def _empty(language: Language, folder: Path | None = None) -> tantivy.Index:
    """A new index, in `folder` or in memory."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("words", tokenizer_name=_ANALYSER, index_option="freq")
    fields.add_unsigned_field("row", indexed=True, fast=True)
    index = tantivy.Index(fields.build(), path=None if folder is None else str(folder))
    index.register_tokenizer(_ANALYSER, analyser(language))
    return index


def _document(row: int, text: str) -> tantivy.Document:
    document = tantivy.Document()
    document.add_text("words", text)
    document.add_unsigned("row", row)
    return document


def _rarity(holding: int, passages: int) -> float:
    """The inverse document frequency, as tantivy has it."""
    return math.log1p((passages - holding + 0.5) / (holding + 0.5))


def _rarest(found: dict[str, int]) -> list[str]:
    """Of words that so many passages hold, the rarest within TERMS and POSTINGS; one at least, where any is held."""
    words: list[str] = []
    postings = 0
    for word, holding in sorted(found.items(), key=lambda item: item[1]):
        postings += holding
        if len(words) == TERMS or (words and postings > POSTINGS):
            break
        if holding:
            words.append(word)
    return words


def _links_at() -> str | None:
    """The folder for temporary links; None: the usual one."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None


def _link(folders: Sequence[Path], links: Path) -> list[int]:
    """One index in the folder `links` of the files of many; returns the row that each of its segments counts from."""
    segments: list[dict[str, Any]] = []
    starts, rows = [], 0
    meta: dict[str, Any] = {}
    for folder in folders:
        meta = json.loads((folder / f"{PREFIX}{META}").read_text())
        own = meta["segments"]
        for segment in own:
            name = uuid.UUID(segment["segment_id"]).hex
            unique = uuid.UUID(int=len(segments))
            for file in folder.glob(f"{PREFIX}{name}.*"):
                Path(links, f"{unique.hex}{file.suffix}").symlink_to(file.resolve())
            segments.append(segment | {"segment_id": str(unique)})
            starts.append(rows)
        rows += sum(segment["max_doc"] for segment in own)
    Path(links, META).write_text(json.dumps(meta | {"segments": segments}))
    return starts


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """tantivy tells of a full disk as of all else."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise StorageError(f"cannot write the words of {folder}: {error}") from error
