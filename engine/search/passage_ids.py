"""Passages as the reranker of an open engine reads them: ids from the collection, or made as they are read."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from itertools import takewhile
from threading import Lock
from time import monotonic
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..collection import Collection
from ..collection.chunking import QUERY_TOKENS
from ..collection.passage_text import PassageText
from ..models.artifact import Artifact
from ..scoring.lexical import Lexicon
from ..text.tokens import Ids, TokenBatch, pack

log = logging.getLogger(__name__)
COUNTED = 2048
"""Passages that tell how rare a token is where ids are made as they are read: all of a small collection. Those of 125
tokens take a second on two cores, and 100 of them 40 ms."""
KEPT = 4_000_000
"""Ids that are kept of passages read before, 16 MB."""
PART = 20_000
"""Characters that are tokenised together, some 15 ms on two cores: in between, a search looks at its time."""
MEASURED = 256
"""Passages whose lengths tell those of a collection."""


class PassageIds(Protocol):
    """Token ids of a collection's passages for one reranker."""

    stage: Literal["fetch", "tokenize"]
    """What the time for `tokens` counts as."""
    reason: str
    """Where they come from, in words."""

    def tokens(self, rows: npt.ArrayLike, until: float | None = None) -> TokenBatch:
        """int32 ids of the passages `rows` (int [m]), without special tokens.

        until: seconds of the monotonic clock; where ids have to be made and it passes, those of the first rows, at
        least of one. None: all.
        """

    @property
    def lexicon(self) -> Lexicon:
        """How often each id occurs in the collection."""


class StoredIds:
    """The ids that the collection has."""

    stage: Literal["fetch", "tokenize"] = "fetch"
    reason = "stored with the collection"

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def tokens(self, rows: npt.ArrayLike, until: float | None = None) -> TokenBatch:
        return self._collection.tokens(rows)

    @property
    def lexicon(self) -> Lexicon:
        return self._collection.lexicon


class IdsAsRead:
    """Ids that are made when they are asked for, on the thread that asks; the last ones asked for are kept.

    They are those that `tandem retokenize` would store.
    """

    stage: Literal["fetch", "tokenize"] = "tokenize"

    def __init__(self, collection: Collection, text: PassageText, why: str, kept: int = KEPT) -> None:
        """`why` none are stored (see `unstored`); `kept`: ids that are kept at most, of however many passages."""
        self.reason = f"made as passages are read: {why}"
        self._collection = collection
        self._text = text
        self._limit = kept
        self._lock = Lock()
        self._known: OrderedDict[int, Ids] = OrderedDict()
        self._size = 0

    def tokens(self, rows: npt.ArrayLike, until: float | None = None) -> TokenBatch:
        wanted: list[int] = np.asarray(rows, dtype=np.int64).tolist()
        with self._lock:
            found = {row: self._known[row] for row in wanted if row in self._known}
            for row in found:
                self._known.move_to_end(row)
        missing = [row for row in dict.fromkeys(wanted) if row not in found]
        fresh: dict[int, Ids] = {}
        for part in self._parts(missing):
            fresh |= self._made(part)
            if until is not None and monotonic() > until:
                break
        self._keep(fresh)
        found |= fresh
        return pack([found[row] for row in takewhile(found.__contains__, wanted)])

    @cached_property
    def lexicon(self) -> Lexicon:
        """Of COUNTED passages spread evenly over the collection: of all where it has no more, else an estimate."""
        rows = spread_rows(self._collection.rows, COUNTED).tolist()
        made = [ids for part in self._parts(rows) for ids in self._made(part).values()]
        return Lexicon.of(pack(made), self._text.tokenizer.vocab_size)

    def _parts(self, rows: list[int]) -> Iterator[dict[int, str]]:
        """The texts of `rows`, by row, so many at a time that no more than PART characters come together."""
        part: dict[int, str] = {}
        size = 0
        for row in rows:
            (text,) = self._text.written(self._collection.titles([row]), self._collection.texts([row]))
            part[row] = text
            size += len(part[row])
            if size >= PART:
                yield part
                part, size = {}, 0
        if part:
            yield part

    def _made(self, part: dict[int, str]) -> dict[int, Ids]:
        batch = self._text.tokenizer.encode_many(list(part.values()))
        return {row: batch[place].copy() for place, row in enumerate(part)}

    def _keep(self, fresh: dict[int, Ids]) -> None:
        with self._lock:
            for row, ids in fresh.items():
                if row not in self._known:
                    self._size += len(ids)
                    self._known[row] = ids
            while self._size > self._limit:
                _, dropped = self._known.popitem(last=False)
                self._size -= len(dropped)


def passage_ids(collection: Collection, text: PassageText, why: str | None) -> PassageIds:
    """The ids that a search reads: the collection's, or where they are not the reranker's (`why`: see `unstored`) made
    as passages are read. Then how rare each token is, is counted here, which takes some seconds at most.
    """
    if why is None:
        return StoredIds(collection)
    made = IdsAsRead(collection, text, why)
    _ = made.lexicon  # now, not in the first search's time
    return made


def unstored(collection: Collection, text: PassageText, reranker: Artifact) -> str | None:
    """Why the ids that `collection` stores are not those of `reranker`, and what to do; None where they are."""
    if collection.manifest.has_ids_of(text.source, reranker.fingerprint):
        return None
    none = collection.manifest.token_dtype is None
    why = "no token ids are stored" if none else "the stored token ids are another tokenizer's"
    return f"{why}; `tandem retokenize` stores those of this reranker"


def tell(collection: Collection, ids: PassageIds, reranker: Artifact) -> None:
    """Log once what it means that the collection was not indexed with `reranker`, where that costs anything: passages
    are tokenised in every search, or they are longer than it reads.
    """
    if isinstance(ids, IdsAsRead):
        counted = min(COUNTED, collection.rows)
        rare = "" if counted == collection.rows else f"; how rare words are is taken from {counted:,} passages"
        log.warning(
            "token ids are %s (tandem retokenize %s --reranker %s)%s", ids.reason, collection.path, reranker.path, rare
        )
    own, limit = collection.manifest.models.reranker, collection.manifest.chunk_tokens
    tokenizer = reranker.tokenizer()
    room = tokenizer.max_length - tokenizer.pair_around - QUERY_TOKENS
    if own is not None and own.fingerprint == reranker.fingerprint and limit <= room:
        return  # passages were cut to fit, or were to stay whole
    lengths = ids.tokens(spread_rows(collection.rows, MEASURED)).lengths
    if len(lengths) and (share := float((lengths > room).mean())):
        log.warning(
            "%s reads %d tokens of a passage beside a question of %d, and %.0f %% of %d passages looked at are longer "
            "(up to %d): what is beyond is not read; `tandem index` with --chunk-tokens %d cuts passages to fit",
            reranker.manifest.name, room, QUERY_TOKENS, 100 * share, len(lengths), int(lengths.max()), max(room, 0),
        )  # fmt: skip


def spread_rows(passages: int, most: int) -> npt.NDArray[np.int64]:
    """int64 [at most `most`]: rows spread evenly over so many passages; all of them where there are no more."""
    return np.linspace(0, max(0, passages - 1), min(most, passages), dtype=np.int64)
