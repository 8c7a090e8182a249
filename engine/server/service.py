"""What the routes share: the engine wherever it is, admission, metrics, and the state of the server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..collection import Updated
from ..config import SearchSettings
from ..engine import Engine
from ..result import DegradedCode, Embedded, RerankResult, Timings
from ..scoring.maxp import window_pair
from ..text.prompting import NO_WISH, PromptWish, search_wishes
from ..text.tokens import Truncate
from . import telemetry
from .admission import Admission, Work, lengths_of, search_work, work_of
from .backend import Local
from .engines import Engines
from .errors import Failure, unknown_collection
from .in_flight import InFlight
from .lease import Lease
from .merges import Merges
from .metrics import Metrics
from .model_info import Facts, ModelFacts
from .rpc_calls import Add, Call, Delete, Embed, Rerank, SearchCall
from .search_response import SearchResponse
from .settings import ServerSettings
from .supervisor import Host
from .swaps import Swaps
from .target import ANY, ModelKind, Target, needed_collection, needed_encoder, needed_reranker

Answer = TypeVar("Answer")
# Calls that are made before the event loop turns: 2,048 pairs of a request took a quarter of a second.
AT_ONCE = 64


class Service:
    """One server. Belongs to the event loop; engines have their own threads or processes."""

    def __init__(self, settings: ServerSettings, engine: Engine | None = None, host: Host | None = None) -> None:
        """Serves what `host` opens, or an `engine` that is open; without either it lives and is not ready."""
        self.settings = settings
        self.metrics = Metrics() if host is None else host.metrics
        self.host = host or Host({}, None, self.metrics, close_after=settings.timeout_ms / 1e3)
        self.swaps = Swaps(self.host)
        self.admission = Admission(settings.queue_tokens, settings.max_concurrent_requests)
        self.in_flight: set[InFlight] = set()
        self.merges = Merges()
        self.draining = False
        self.closing = False
        self._gauges()
        if engine is not None:
            engines, name = Engines({}, engine.pool), engine.collection.path.resolve().name
            engines.adopt(name, engine)
            self.host.adopt(Local(engines, {name: engines.facts(name)}, self.metrics.batch))

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.host.current is not None and not self.draining

    @contextmanager
    def lease(self, name: str | None = None) -> Iterator[Lease]:
        """Hold a collection (None: the first one) for one request, so that all of it sees one version.

        Raises Failure `unavailable` while there is nothing or when the server goes down, `not_found` for another name.
        """
        if name is not None and name not in self.host.catalogue.paths:
            raise unknown_collection()
        with self._leased(name) as lease:
            yield lease

    @contextmanager
    def _leased(self, name: str | None) -> Iterator[Lease]:
        """The same by the name that workers have it under."""
        if self.closing:
            raise Failure("unavailable", "the server is going down; try another one", retry_after=5, close=True)
        with self.host.lease(name, self.admission.seconds) as lease:
            yield lease

    @contextmanager
    def _reserved(self, lease: Lease, work: Work, remaining: float, client: str) -> Iterator[None]:
        """Hold `work` with the worker of a lease, whichever that is; raises Failure `overloaded`."""
        with self.admission.reserve(work, remaining, client, lease.seat.number) as lease.moved:
            try:
                yield
            finally:
                lease.moved = None

    @contextmanager
    def lease_for(self, kind: ModelKind, target: Target) -> Iterator[Lease]:
        """Hold what has the model that a request is for; raises as `lease` does."""
        if target.collection is not None and target.collection not in self.host.catalogue.paths:
            raise unknown_collection()
        with self._leased(target.place(kind, self.host.catalogue, self.host.facts)) as lease:
            yield lease

    def facts_for(self, kind: ModelKind, target: Target) -> Facts:
        """What has the model that a request is for; raises as `lease` does."""
        with self.lease_for(kind, target) as lease:
            return lease.facts

    def facts(self, name: str | None = None) -> Facts:
        """What is served now under a name (None: the first one); raises as `lease` does."""
        with self.lease(name) as lease:
            return lease.facts

    @property
    def device(self) -> str | None:
        """What computes; None while nothing is served."""
        return next((facts.device for facts in self.host.facts.values()), None)

    @property
    def paths(self) -> list[str]:
        """Where the collections are."""
        return [str(path) for path in self.host.catalogue.paths.values()]

    def main_facts(self) -> Facts:
        """What answers requests for a reranker that name none, or where there is none those for vectors; raises as
        `lease` does."""
        found = self.facts_for("reranker", ANY)
        return found if found.reranker is not None else self.facts_for("encoder", ANY)

    def all_facts(self) -> list[Facts]:
        """The collections that are served now, the first one first; raises Failure `unavailable` while none can be."""
        if self.host.current is None:
            raise self.host.absent()
        open_now = self.host.facts
        return [open_now[name] for name in self.host.catalogue.names if name in open_now]

    def abort(self) -> None:
        """End every request in flight with 503."""
        for request in list(self.in_flight):
            request.end("aborted")

    async def search(
        self,
        lease: Lease,
        queries: Sequence[str],
        chosen: SearchSettings,
        remaining: float,
        client: str = "",
        *,
        return_text: bool = True,
    ) -> list[SearchResponse]:
        """Searches that are admitted together or not at all."""
        wish = _reranker_wish(needed_collection(lease.facts), chosen)
        work = sum((self._search_work(lease.facts, query, chosen, wish.size) for query in queries), Work(0, 0.0))
        with self._reserved(lease, work, remaining, client):
            calls = [SearchCall(client, query, chosen, return_text) for query in queries]
            results = await _together(lease, calls, remaining)
        for result in results:
            self._answered(result.timings, None, result.degraded_code)
        return results

    def _search_work(self, facts: Facts, query: str, chosen: SearchSettings, prompt: int) -> Work:
        """What a search will cost, with `prompt` characters before the query for the reranker."""
        work = Work((len(query) + chosen.wish.size) // 4, 0.0)
        if facts.reranker is not None and chosen.rerank:
            budget = None if chosen.budget_ms is None else chosen.budget_ms / 1e3
            asked = (len(query) + prompt) // 4
            depth = facts.depth(chosen.effort)
            lengths = _stored(facts, facts.reranker, depth.of(min(chosen.recalled, facts.passages)), asked)
            early = None if facts.early is None else facts.early.cost
            windows = _windows(facts, facts.reranker, min(depth.reread, len(lengths)), asked)
            work = search_work(lengths, facts.reranker.cost, early, depth.finalists, windows, budget)
        return work

    async def rerank(
        self,
        lease: Lease,
        query: str,
        texts: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        truncate: Truncate | None = None,
        passage_tokens: int | None = None,
        budget_ms: float | None = None,
        wish: PromptWish = NO_WISH,
        remaining: float,
        client: str = "",
    ) -> RerankResult:
        """One admitted rerank, whole or not at all; less only with a `budget_ms`."""
        asked = Rerank(
            client=client, query=query, texts=texts, ids=ids, truncate=truncate, passage_tokens=passage_tokens,
            budget_ms=budget_ms, wish=wish,
        )  # fmt: skip
        with self._reserved(lease, self._rerank_work(lease.facts, asked), remaining, client):
            result = await lease.run(asked, remaining)
        self._answered(result.timings, result.tokens, result.degraded_code)
        return result

    async def rerank_all(
        self,
        lease: Lease,
        groups: Sequence[tuple[str, Sequence[str]]],
        *,
        truncate: Truncate | None,
        wish: PromptWish = NO_WISH,
        remaining: float,
        client: str = "",
    ) -> list[RerankResult]:
        """Queries, each with its texts, that are admitted together or not at all."""
        calls: list[Rerank] = []
        work = Work(0, 0.0)
        for query, texts in groups:
            calls.append(Rerank(client=client, query=query, texts=texts, truncate=truncate, wish=wish))
            work += self._rerank_work(lease.facts, calls[-1])
            if len(calls) % AT_ONCE == 0:
                await asyncio.sleep(0)
        with self._reserved(lease, work, remaining, client):
            results = await _together(lease, calls, remaining)
        for result in results:
            self._answered(result.timings, result.tokens, result.degraded_code)
        return results

    def _rerank_work(self, facts: Facts, asked: Rerank) -> Work:
        """What a rerank will cost.

        Raises Failure for what is too much or too long, InputError for a prompt that the model has not.
        """
        reranker, texts = needed_reranker(facts), asked.texts
        count = len(texts if texts is not None else asked.ids or ())
        self.check_count(count, self.settings.max_documents, "documents")
        self._check_characters([asked.query], "the query")
        reranker.prompting.query("", asked.wish)
        words = (len(asked.query) + asked.wish.size) // 4
        if texts is not None:
            self._check_characters(texts, "document")
            estimated = lengths_of(_characters(texts), words + reranker.around, reranker.max_length)
        else:
            estimated = _stored(facts, reranker, count, words)
        most = None if asked.budget_ms is None else asked.budget_ms / 1e3
        return work_of(estimated, reranker.cost, at_most=most)

    async def add(self, lease: Lease, call: Add, remaining: float) -> Updated:
        """Documents that are added, all or none, admitted as the texts that are encoded for them."""
        self._check_writable(lease)
        self.check_count(len(call.documents), self.settings.max_documents, "documents")
        texts = [f"{document.title} {document.text}" for document in call.documents]
        self._check_characters(texts, "document")
        encoder = needed_encoder(lease.facts)
        lengths = lengths_of(_characters(texts), encoder.around, max(encoder.max_length, int(_characters(texts).max())))
        with self._reserved(lease, work_of(lengths, encoder.cost), remaining, call.client):
            return await self._changed(lease, call, remaining)

    async def delete(self, lease: Lease, call: Delete, remaining: float) -> Updated:
        """Documents that are deleted."""
        self._check_writable(lease)
        self.check_count(len(call.ids), self.settings.max_documents, "ids")
        with self._reserved(lease, Work(len(call.ids), 0.0), remaining, call.client):
            return await self._changed(lease, call, remaining)

    async def _changed(self, lease: Lease, call: Call[Updated], remaining: float) -> Updated:
        report = await lease.run(call, remaining)
        await self.swaps.swap([lease.name])
        if report.merge_due:
            self.merges.begin(Path(lease.facts.path))
        return report

    def _check_writable(self, lease: Lease) -> None:
        needed_collection(lease.facts)
        if self.settings.read_only:
            raise Failure("forbidden", "this server is read-only: documents are added and deleted elsewhere")

    async def ask(self, lease: Lease, call: Call[Answer], tokens: int, remaining: float, client: str = "") -> Answer:
        """One admitted call that costs the device nothing, but memory: tokenising and its reverse."""
        with self._reserved(lease, Work(tokens, 0.0), remaining, client):
            return await lease.run(call, remaining)

    async def embed(
        self,
        lease: Lease,
        texts: Sequence[str],
        wish: PromptWish = NO_WISH,
        *,
        truncate: Truncate | None = None,
        remaining: float,
        client: str = "",
    ) -> Embedded:
        """One admitted embedding request, whole or not at all."""
        encoder = needed_encoder(lease.facts)
        self.check_inputs(texts)
        prompt = len(encoder.prompting.before_text(wish)) // 4
        estimated = lengths_of(_characters(texts), prompt + encoder.around, encoder.max_length)
        with self._reserved(lease, work_of(estimated, encoder.cost), remaining, client):
            call = Embed(client=client, texts=texts, wish=wish, truncate=truncate)
            result = await lease.run(call, remaining)
        self._answered(result.timings, result.tokens, None)
        return result

    def check_inputs(self, texts: Sequence[str]) -> None:
        """Raises Failure for too many `texts`, or for one that is too long."""
        self.check_count(len(texts), self.settings.max_inputs, "inputs")
        self._check_characters(texts, "input")

    def check_queries(self, queries: Sequence[str]) -> None:
        """Raises Failure for too many of them, or one that is too long."""
        self.check_count(len(queries), self.settings.max_queries, "queries")
        self._check_characters(queries, "query")

    def check_count(self, count: int, limit: int, what: str) -> None:
        """Raises Failure for more than `limit`."""
        if count > limit:
            raise Failure("validation", f"{count} {what} exceed the limit of {limit}; split the request", param=what)

    def _check_characters(self, texts: Sequence[str], what: str) -> None:
        limit = self.settings.max_text_characters
        for place, text in enumerate(texts):
            if len(text) > limit:
                which = what if what == "the query" else f"{what} {place}"
                raise Failure("validation", f"{which} has {len(text)} characters; the limit is {limit}", param=what)

    def _answered(self, timings: Timings, tokens: int | None, degraded: DegradedCode | None) -> None:
        self.metrics.timings(timings, tokens)
        self.metrics.degrade(degraded)
        telemetry.stages(timings, degraded)

    def _gauges(self) -> None:
        def load(name: str) -> float:
            return float(getattr(self.host.load, name))

        self.metrics.te_queue_size.set_function(partial(load, "jobs"))
        self.metrics.gauge("tandem_queue_tokens", "Tokens that wait for the device", partial(load, "tokens"))
        self.metrics.gauge("tandem_reserved_tokens", "Tokens of admitted requests", lambda: self.admission.tokens)
        self.metrics.gauge(
            "tandem_admission_error", "Times longer than predicted that requests may take", lambda: self.admission.error
        )
        for seat in self.host.seats:
            self.metrics.worker(
                seat.number, partial(getattr, seat, "lives"), partial(self.admission.seconds, seat.number)
            )
        self.metrics.gauge("tandem_in_flight", "Requests in flight", lambda: len(self.in_flight))
        self.metrics.gauge("tandem_ready", "1 when new requests should come here", lambda: self.is_ready)


async def _together(lease: Lease, calls: Sequence[Call[Answer]], remaining: float) -> list[Answer]:
    """The answers in order; the first error is raised, and ends the others."""
    if len(calls) == 1:
        return [await lease.run(calls[0], remaining)]
    tasks: list[asyncio.Future[Answer]] = []
    try:
        for call in calls:
            tasks.append(asyncio.ensure_future(lease.run(call, remaining)))
            if len(tasks) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reranker_wish(facts: Facts, chosen: SearchSettings) -> PromptWish:
    """What a search wants of the reranker; raises InputError for what neither model takes."""
    reranker = facts.reranker.prompting if facts.reranker is not None and chosen.rerank else None
    encoder = needed_encoder(facts).prompting
    own, other = search_wishes(chosen.wish, encoder, reranker)
    encoder.before_text(own)
    return other


def _stored(facts: Facts, reranker: ModelFacts, count: int, query: int) -> npt.NDArray[np.int64]:
    """Estimated tokens of each pair of `count` stored passages and a query of so many tokens."""
    length = min(facts.passage_tokens + query + reranker.around, reranker.max_length)
    return np.full(count, length, dtype=np.int64)


def _windows(facts: Facts, reranker: ModelFacts, passages: int, query: int) -> npt.NDArray[np.int64]:
    """Estimated tokens of each pair that reading `passages` of them again takes."""
    count = math.ceil(passages * facts.passage_windows)
    return np.full(count, window_pair(query, reranker.around, reranker.max_length), dtype=np.int64)


def _characters(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([len(text) for text in texts], dtype=np.int64)
