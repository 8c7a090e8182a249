"""Collection: an indexed corpus, open for reading. Everything is a memory map, looked up by row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ..errors import CollectionError, InputError
from ..platform.durable_io import read_small
from ..platform.npy import Array, open_array
from ..recall import Index, LexicalIndex
from ..scoring.lexical import Lexicon
from ..text.tokens import TokenBatch, cumulative
from . import fitted_weights, versions
from .checking import check_files
from .filtered_rows import FilteredRows
from .fitted_weights import FittedWeights
from .manifest import MANIFEST, CollectionManifest
from .metadata_index import MetadataIndex
from .ragged import Ragged
from .token_files import LEXICON, TOKENS

PLACES = "places.npy"
ORDER = "ids.order.npy"
MANIFEST_BYTES = 1_000_000
"""A manifest has some 6 kB."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage was in its document: its chunk (0: it is the whole document, else from 1) and its characters."""

    document: str
    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A stored passage: its id, its document's id, its text, title and metadata."""

    id: str
    document: str
    text: str
    title: str
    metadata: dict[str, Any]


class Collection:
    """One version of an indexed corpus; a row is a passage. Immutable, so any number of threads may read it.

    The version stays readable while newer ones are published.
    """

    def __init__(self, path: Path, folder: Path, manifest: CollectionManifest, threads: int | None = None) -> None:
        """Opens the files of a version that `check_files` found right; `Collection.open` is the way in."""
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self.index = Index.open(folder, manifest.index, threads=threads)
        self._ids = Ragged.open(folder / "ids", np.uint8)
        self._titles = Ragged.open(folder / "titles", np.uint8)
        self._texts = Ragged.open(folder / "texts", np.uint8)
        self._metadata = Ragged.open(folder / "metadata", np.uint8)
        self._places = open_array(folder / PLACES, np.int64, 2)
        self._order = open_array(folder / ORDER, np.int64, 1)
        dtype = manifest.token_dtype
        self._tokens = None if dtype is None else Ragged.open(folder / TOKENS, dtype)
        self._frequencies = None if dtype is None else open_array(folder / LEXICON, np.uint32, 1)
        self.lexical = None if manifest.language is None else LexicalIndex.open(folder, manifest.language)
        """The words of the passages; None: there are none."""
        self._check_counts()
        self.facets = MetadataIndex.open(folder, self._metadata)
        """The values of the passages' metadata."""
        self.filtered = FilteredRows(self.facets)
        """Which passages a parsed filter leaves (see `filters.parse`)."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        version: versions.Pointer | None = None,
        threads: int | None = None,
    ) -> Collection:
        """The current version of the collection folder `path`, or the one that `version` points to.

        Checked before anything is read: the pointer's hash of the manifest, the manifest, that its files and no others
        are there, plain and of their size, and every file's hash, a second a GB on each core (see `check_files`).
        `threads`: CPU threads of the index; None: one a core. Raises CollectionError.
        """
        path = Path(path)
        pointer = version or versions.read_pointer(path)
        if pointer is None:
            what = "holds no collection" if path.is_dir() else "is not a folder"
            raise CollectionError(f"{path} {what}; make one with `tandem index CORPUS --out {path}`")
        return open_version(path / versions.VERSIONS / pointer.version, pointer.manifest_sha256, threads=threads)

    def verify(self) -> None:
        """Check the files again, as opening did; raises CollectionError when one has changed since."""
        check_files(self.folder, self.manifest)

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def fitted(self) -> FittedWeights | None:
        """The weights of the final order that are kept with the collection, and the models they were fitted with."""
        return fitted_weights.read(self.path)

    def __len__(self) -> int:
        return self.manifest.counts.passages

    def tokens(self, rows: npt.ArrayLike) -> TokenBatch:
        """The stored token ids of the passages `rows` (int [m]), without special tokens: those of the
        rerankers that `manifest.has_ids_of` says.

        Raises CollectionError when there are none.
        """
        flat, lengths = self._stored.take(rows)
        return TokenBatch(flat.astype(np.int32), cumulative(lengths))

    def token_arrays(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """The token ids of all passages laid end to end, as stored, and their offsets, int64 [n + 1].

        Raises CollectionError when there are none.
        """
        return self._stored.data, self._stored.offsets

    @cached_property
    def lexicon(self) -> Lexicon:
        """How often the stored tokens occur here.

        Raises CollectionError when there are none.
        """
        _ = self._stored
        return Lexicon(np.array(self._frequencies), len(self))

    @property
    def _stored(self) -> Ragged:
        if self._tokens is None:
            raise CollectionError(
                f"{self.path} has no token ids for a reranker; `tandem retokenize {self.path} --reranker FOLDER` makes "
                "them"
            )
        return self._tokens

    def texts(self, rows: npt.ArrayLike) -> list[str]:
        """The texts of the passages `rows` (int [m])."""
        return self._texts.strings(rows)

    def titles(self, rows: npt.ArrayLike) -> list[str]:
        """The titles of the passages' documents, empty where there was none."""
        return self._titles.strings(rows)

    def ids(self, rows: npt.ArrayLike) -> list[str]:
        """The passages' ids: the document's, or the document's with `#1`, `#2` … where it was split."""
        return self._ids.strings(rows)

    def documents(self, rows: npt.ArrayLike) -> list[str]:
        """The ids of the passages' documents."""
        return [place.document for place in self.places(rows)]

    def places(self, rows: npt.ArrayLike) -> list[Place]:
        """Where the passages were in their documents."""
        rows = np.asarray(rows, dtype=np.int64)
        return self._placed(self.ids(rows), rows)

    def _placed(self, ids: list[str], rows: npt.NDArray[np.int64]) -> list[Place]:
        """`places` of rows whose ids are known."""
        return [
            Place(name.removesuffix(f"#{chunk}") if chunk else name, chunk, start, end)
            for name, (chunk, start, end) in zip(ids, self._places[rows].tolist(), strict=True)
        ]

    def metadata(self, rows: npt.ArrayLike) -> list[dict[str, Any]]:
        """What else the rows of the corpus held."""
        return [json.loads(text) if text else {} for text in self._metadata.strings(rows)]

    def passages(self, rows: npt.ArrayLike) -> list[StoredPassage]:
        """The passages `rows` (int [m]) with all that is told of them."""
        rows = np.asarray(rows, dtype=np.int64)
        ids = self.ids(rows)
        documents = [place.document for place in self._placed(ids, rows)]
        columns = (ids, documents, self.texts(rows), self.titles(rows), self.metadata(rows))
        return [StoredPassage(*fields) for fields in zip(*columns, strict=True)]

    def row_of(self, identity: str) -> int:
        """The row of a passage's id, by binary search; raises InputError when there is none."""
        wanted = identity.encode("utf-8", "surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._ids[self._order[middle]].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self) and self._ids[self._order[low]].tobytes() == wanted:
            return int(self._order[low])
        raise InputError(f"no passage of {self.path} has the id {identity!r}")

    def _check_counts(self) -> None:
        expected = len(self)
        counts = {
            "vectors": len(self.index), "ids": len(self._ids), "titles": len(self._titles), "texts": len(self._texts),
            "metadata": len(self._metadata), "places": len(self._places), "id order": len(self._order),
            "tokens": expected if self._tokens is None else len(self._tokens),
            "words": expected if self.lexical is None else len(self.lexical),
        }  # fmt: skip
        for name, count in counts.items():
            if count != expected:
                raise CollectionError(f"{self.folder} holds {count} {name} for {expected} passages; index again")
        if self.index.dimension != self.manifest.dimension:
            found = f"{self.index.dimension}, its manifest says {self.manifest.dimension}"
            raise CollectionError(f"{self.folder} holds vectors of dimension {found}; index again")


def open_version(folder: Path, manifest_sha256: str | None = None, *, threads: int | None = None) -> Collection:
    """One version's folder, with every check of `Collection.open`."""
    manifest = _read_manifest(folder, manifest_sha256)
    check_files(folder, manifest)
    return Collection(folder.parent.parent, folder, manifest, threads)


def read_current(root: Path) -> CollectionManifest | None:
    """The current version's manifest, None where nothing was published yet; raises CollectionError when damaged."""
    pointer = versions.read_pointer(root)
    if pointer is None:
        return None
    return _read_manifest(root / versions.VERSIONS / pointer.version, pointer.manifest_sha256)


def _read_manifest(folder: Path, expected: str | None) -> CollectionManifest:
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink():
        raise CollectionError(f"{path} is reached through a link; a collection holds plain files only")
    try:
        data = read_small(path, MANIFEST_BYTES)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read ({error.strerror}); index again") from error
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise CollectionError(f"{path} is not the manifest that {versions.CURRENT} was published with; index again")
    try:
        return CollectionManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise CollectionError(f"{path} is not one this version reads ({where}: {first['msg']}); index again") from error
