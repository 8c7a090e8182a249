"""Engine: two-stage search over a collection, and its models alone. What a search is: `search.two_stage`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from .collection import Collection, Document, Pointer
from .collection.corpus import of_documents
from .collection.filters import parse
from .collection.making import maker_for
from .collection.manifest import numbered
from .collection.merging import Merged, merge
from .collection.updating import Updated, add, delete
from .config import EngineSettings, SearchSettings
from .errors import CollectionError, EngineClosed, InputError
from .model_requests import ModelRequests
from .models.cross_encoder import CrossEncoder
from .models.encoder import BiEncoder
from .recall import LexicalIndex
from .recall.nearest import Recalled
from .result import SearchResult
from .scheduling.job import Job
from .scheduling.request_steps import drive, drive_async, drive_together
from .scoring.effort import RerankDepth
from .scoring.fusion import Fusion
from .search.model_api import ModelApi
from .search.model_lookup import encoder_of, reranker_of
from .search.model_pool import ModelPool
from .search.passage_ids import PassageIds
from .search.placement import Placed
from .search.view import View
from .text.tokens import TokenBatch

WRITER = "tandem: documents that are added"
"""Who encodes them, among the clients that take turns."""
# Queries of `search_many` in flight together: enough to fill every micro-batch, few enough for the queue's limit.
WINDOW = 32


class Engine(ModelRequests):
    """Both models and a collection, open on one device. Thread-safe; close it, or use it in a `with` block."""

    def __init__(self, view: View, pool: ModelPool, settings: EngineSettings) -> None:
        """Searches a `view` with models of `pool`, which this holds until it is closed; `Engine.open` makes them."""
        super().__init__(pool)
        self._settings = settings
        self._refreshing = Lock()
        self._closed = False
        self._shown = view
        pool.hold(view.nbytes)

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._closed

    @property
    def _requests(self) -> ModelApi:
        return self._view.models

    @property
    def _view(self) -> View:
        if self._closed:
            raise EngineClosed("the engine is closed; open it again to search")
        return self._shown

    @property
    def encoder(self) -> BiEncoder:
        """The bi-encoder."""
        return self._shown.encoder

    @property
    def reranker(self) -> CrossEncoder | None:
        """The cross-encoder; None: there is none."""
        return self._shown.reranker

    @property
    def collection(self) -> Collection:
        """The version that is searched."""
        return self._shown.collection

    @property
    def fusion(self) -> Fusion:
        """The weights of the final order."""
        return self._shown.fusion

    @property
    def placed(self) -> Placed:
        """Where recall and the pipeline are."""
        return self._shown.placed

    @property
    def passages(self) -> PassageIds | None:
        """What the reranker reads of the passages; None without one."""
        return self._shown.passages

    @property
    def words(self) -> LexicalIndex | None:
        """The index that recall looks words up in; None: recall is by vectors alone."""
        return self._shown.words

    @classmethod
    def open(
        cls,
        collection: str | Path,
        *,
        encoder: str | Path | None = None,
        reranker: str | Path | None = None,
        version: Pointer | None = None,
        pool: ModelPool | None = None,
        **settings: Any,
    ) -> Engine:
        """Open a collection with its models.

        `encoder` says where the bi-encoder is when it is no longer where the collection remembers it. `reranker` may be
        any cross-encoder, and is the collection's own where none is named: one with the tokenizer of the collection's
        token ids reads these, for another passages are tokenised as they are read (see `build.retokenize`). `version`
        is another than the collection's current one; `settings` are those of `EngineSettings` (device, threads,
        precisions, recall_weight, …).

        `pool` is another engine's: both share the device and its thread, and every model that they have in common. The
        settings are that engine's then, but for those that are given; device, threads and queue_tokens are the same.

        With `warm_up` the models that were not loaded yet run once before this returns, on the thread that will run
        them. Raises CollectionError, ArtifactError, DeviceError or InputError.
        """
        pool, chosen = ModelPool.of(pool, settings)
        pool.hold()
        try:
            opened = Collection.open(
                collection, version=version, threads=pool.device.threads, partial=chosen.allow_partial
            )
            view = View.open(opened, encoder_of(opened, encoder), reranker_of(opened, reranker), pool, chosen)
            if chosen.warm_up:
                view.warm_up(pool)
            return cls(view, pool, chosen)
        finally:
            pool.release()

    def search(self, query: str, *, depth: RerankDepth | None = None, **settings: Any) -> SearchResult:
        """The passages that answer `query`, best first.

        `settings` are those of `SearchSettings`; `config.SearchOptions` says what each is (docs/options.md). Within the
        budget as many of the candidates that `effort` asks for as fit are reranked, in the order of the first stage's
        evidence; `result.degraded` tells when that was not all. `depth` says by numbers what is to be read, in place
        of `effort`: for whoever measures.

        Raises InputError, Overloaded, EngineClosed or InferenceError.
        """
        return drive(self._view.two_stage.search(query, SearchSettings(**settings), depth=depth))

    async def asearch(
        self, query: str, settings: SearchSettings | None = None, *, client: str = "", **options: Any
    ) -> SearchResult:
        """`search`, awaited: any number may be in flight, without a thread each. Clients take turns at the device.

        Asked by `settings`, or by `options` as `search` is; both are an InputError.
        """
        if settings is not None and options:
            raise InputError(f"settings were given, and {', '.join(options)} besides; put them into the settings")
        asked = SearchSettings(**options) if settings is None else settings
        return await drive_async(self._view.two_stage.search(query, asked, client), self.pool.steps)

    def recall(self, query: str, **settings: Any) -> Recalled:
        """The first stage of `search` alone: rows and their recall scores, for `search_recalled`."""
        return drive(self._view.two_stage.recall(query, SearchSettings(**settings)))

    def search_recalled(self, query: str, recalled: Recalled, **settings: Any) -> SearchResult:
        """`search` over what `recall` found for the same query with the same settings: several rerankers, each in an
        engine of its own, can be compared on the same candidates. Goes stage by stage on every device.
        """
        return drive(self._view.two_stage.search(query, SearchSettings(**settings), recalled=recalled))

    def search_many(self, queries: Sequence[str], **settings: Any) -> list[SearchResult]:
        """`search` for each query, WINDOW of them in flight together; without `budget_ms` given, none applies."""
        chosen = SearchSettings(**{"budget_ms": None, **settings})
        parts = [queries[start : start + WINDOW] for start in range(0, len(queries), WINDOW)]
        return [result for part in parts for result in self._together(part, chosen)]

    def _together(self, queries: Sequence[str], chosen: SearchSettings) -> list[SearchResult]:
        return drive_together([self._view.two_stage.search(query, chosen) for query in queries])

    def add(self, documents: Sequence[Document]) -> Updated:
        """Add documents to the collection, on the disk and searched by this engine when it returns; one whose id is
        there replaces what is there.

        They are encoded in turn with the searches that are under way, which go before. All are added or none is.
        Raises CorpusError (a document is unusable), CollectionError, InferenceError, Overloaded or StorageError.
        """
        reranker = None if self.reranker is None else self.reranker.artifact
        maker = maker_for(
            self._view.collection, self._encode, self.encoder.artifact, reranker, threads=self.device.threads
        )
        report, opened = add(self.collection, of_documents(documents), maker)
        self._show(opened)
        return report

    def delete(self, ids: Iterable[str] = (), *, filters: dict[str, Any] | None = None) -> Updated:
        """Delete the documents with these `ids`, and those whose metadata `filters` finds (see `SearchSettings`).

        On the disk, and no longer found by this engine, when it returns. Raises InputError, CollectionError or
        StorageError.
        """
        found = None if filters is None else parse(filters)
        before = self._view.collection
        report, opened = delete(before.path, ids, found, before=before)
        self._show(opened)
        return report

    def merge(self, *, whole: bool = False) -> Merged:
        """Merge segments that are due, or with `whole` all of them (see `collection.merging`), and search the result.

        Searches and changes go on meanwhile. Raises CollectionError or StorageError.
        """
        report = merge(self.collection.path, whole=whole, threads=self.device.threads)
        self.refresh()
        return report

    def refresh(self) -> str:
        """Search the collection's current version from now on, and return its name; searches that are under way end on
        the one that they began on. What both share is not read again.

        Raises CollectionError where its models are others: then open an engine anew.
        """
        before = self.collection
        return self._show(Collection.open(before.path, threads=self.device.threads, before=before))

    def _show(self, opened: Collection) -> str:
        """Search `opened` from now on, unless what is searched is newer: changes may come out of order."""
        with self._refreshing:
            if int(numbered(opened.version)) > int(numbered(self.collection.version)):
                before, self._shown = self._shown, self._viewed(opened)
                self.pool.hold(self._shown.nbytes)
                self.pool.release(before.nbytes)
            return self.collection.version

    def _viewed(self, opened: Collection) -> View:
        indexed = opened.manifest.models.encoder
        if indexed.fingerprint != self.encoder.artifact.fingerprint:
            raise CollectionError(f"{opened.path} was indexed with another bi-encoder, {indexed.name}: open it anew")
        reranker = None if self.reranker is None else self.reranker.artifact
        before, now = self.collection.manifest.models.reranker, opened.manifest.models.reranker
        own = reranker is None or (before is not None and reranker.fingerprint == before.fingerprint)
        if own and now is not None and (before is None or now.fingerprint != before.fingerprint):
            raise CollectionError(f"{opened.path} has another reranker now, {now.name}: open it anew")
        return View.open(opened, self.encoder.artifact, reranker, self.pool, self._settings, self._shown)

    def _encode(self, batch: TokenBatch) -> npt.NDArray[np.float32]:
        """float32 [n, d] of passages' ids without special tokens, on the device thread."""
        job = Job(self.encoder, self.encoder.tokenizer.single(batch), client=WRITER)
        return np.stack(drive(self.batcher.run(job)).results)

    @property
    def choices(self) -> dict[str, str]:
        """What runs each part and why, in words: the device, both models, recall, the pipeline."""
        models = {"encoder": self.encoder, "reranker": self.reranker}
        return {
            "device": f"{self.device.kind}: {self.device.reason}",
            **{
                name: f"{model.choice.runtime} {model.precision}: {model.choice.reason}"
                for name, model in models.items()
                if model is not None
            },
            **({} if self.reranker is None else {"early exit": self.reranker.exit_reason}),
            **({} if self.passages is None else {"token ids": self.passages.reason}),
            "words": self._shown.why_words,
            **self.placed.reasons,
        }

    def close(self) -> None:
        """Take no more requests. The last engine of a pool stops the device thread; what waits gets EngineClosed."""
        with self._refreshing:
            closed, self._closed = self._closed, True
        if not closed:
            self.pool.release(self._shown.nbytes)
