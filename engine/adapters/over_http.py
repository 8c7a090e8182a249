"""The backend that is a server, asked over HTTP by httpx."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..config import SearchSettings
from ..errors import EngineClosed, EngineError, InputError, TandemError
from ..result import Reranked, SearchResult
from ..text.checking import checked
from ..text.prompting import PromptWish
from .http_answers import all_found, failure, found, passages, read, vectors
from .missing import missing
from .parts import joined, told, united, words
from .parts import parts as parts_of

if TYPE_CHECKING:
    import httpx

    Kept = tuple[httpx.AsyncClient, AsyncGenerator[None, None]]
    """The client of an event loop, and what closes it."""

TIMEOUT_S = 60.0
"""A server's own limit of a request is 30 s; what waits longer will not be answered."""
# Queries of one request. A search without a budget may take a second, and all of a request have 30.
QUERIES = 8
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class HttpCall(Generic[Read]):
    """One request: where it goes under the collection, its body, and how the answer is read."""

    path: str
    body: dict[str, Any]
    read: Callable[[bytes], Read]


class HttpBackend:
    """A server. Thread-safe, and usable from several event loops; connections are kept."""

    def __init__(
        self, url: str, *, api_key: str | None = None, collection: str | None = None, timeout_s: float | None = None
    ) -> None:
        """See `connect`. Nothing is sent yet. Raises InputError, also where httpx is not installed."""
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise missing("a server's client", "httpx", error) from error
        try:
            httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is no URL: {error}") from error
        self.url = url.rstrip("/")
        self.collection = collection
        self._timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        headers = {} if api_key is None else {"authorization": f"Bearer {_ascii(api_key)}"}
        # Certificates are read here once, and not on an event loop.
        self._options: dict[str, Any] = {
            "headers": headers,
            "timeout": self._timeout_s,
            "verify": httpx.create_ssl_context(),
        }
        self._base = "/v1" if collection is None else f"/v1/collections/{quote(checked(collection, 'collection'), '')}"
        self._httpx = httpx
        self._client = httpx.Client(**self._options)
        weakref.finalize(self, self._client.close)
        # A connection belongs to the event loop that opened it.
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Kept] = WeakKeyDictionary()
        self._making = Lock()

    def __repr__(self) -> str:
        return f"HttpBackend({self.url!r}, collection={self.collection!r})"

    def search(self, query: str, settings: SearchSettings) -> SearchResult:
        """See `AnyBackend`."""
        return told(self._ask(_search(query, settings)))

    async def asearch(self, query: str, settings: SearchSettings) -> SearchResult:
        """See `AnyBackend`."""
        return told(await self._aask(_search(query, settings)))

    def search_many(self, queries: Sequence[str], settings: SearchSettings) -> list[SearchResult]:
        """See `AnyBackend`."""
        groups = [list(queries[start : start + QUERIES]) for start in range(0, len(queries), QUERIES)]
        calls = [HttpCall("/search", {"queries": group, **_body(settings)}, all_found) for group in groups]
        return [told(result) for call in calls for result in self._ask(call)]

    def rerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `AnyBackend`."""
        return united(texts, [self._ask(_rerank(query, part, wish)) for part in parts_of(texts) if part])

    async def arerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `AnyBackend`."""
        return united(texts, [await self._aask(_rerank(query, part, wish)) for part in parts_of(texts) if part])

    def embed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `AnyBackend`; of no texts [0, 0], since how long a vector is only an answer says."""
        return joined([self._ask(_embed(part, wish)) for part in parts_of(texts) if part])

    async def aembed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `AnyBackend`; of no texts [0, 0]."""
        return joined([await self._aask(_embed(part, wish)) for part in parts_of(texts) if part])

    def close(self) -> None:
        """Close the connections of what is not awaited, and ask no more: a later call raises EngineClosed."""
        self._client.close()

    async def aclose(self) -> None:
        """`close`, and the connections of the event loop that runs this."""
        self.close()
        if (kept := self._of_loops.pop(asyncio.get_running_loop(), None)) is not None:
            await kept[1].aclose()

    def _ask(self, call: HttpCall[Read]) -> Read:
        self._open()
        try:
            answer = self._client.post(self._address(call), json=call.body)
        except self._httpx.RequestError as error:
            raise self._unreachable(error) from error
        return self._read(call, answer)

    async def _aask(self, call: HttpCall[Read]) -> Read:
        self._open()
        try:
            answer = await (await self._of_loop()).post(self._address(call), json=call.body)
        except self._httpx.RequestError as error:
            raise self._unreachable(error) from error
        return self._read(call, answer)

    def _address(self, call: HttpCall[Any]) -> str:
        return f"{self.url}{self._base}{call.path}"

    def _open(self) -> None:
        if self._client.is_closed:
            raise EngineClosed(f"the connection to {self.url} was closed; connect again to ask it")

    async def _of_loop(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        with self._making:
            kept = self._of_loops.get(loop)
            if kept is not None:
                return kept[0]
            client = self._httpx.AsyncClient(**self._options)
            life = _life(client)
            self._of_loops[loop] = client, life
        await anext(life)
        return client

    def _read(self, call: HttpCall[Read], answer: httpx.Response) -> Read:
        if answer.status_code != 200:
            raise failure(self.url, answer.status_code, answer.content, self.collection)
        return read(self.url, answer.content, call.read)

    def _unreachable(self, error: httpx.RequestError) -> TandemError:
        if isinstance(error, self._httpx.TimeoutException):
            return EngineError(f"{self.url} did not answer within {self._timeout_s:g} seconds; is it overloaded?")
        return EngineError(f"{self.url} cannot be reached ({error}); check the URL, and that `tandem serve` runs there")


async def _life(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Begun in an event loop, it closes `client` there: when the loop shuts its generators down, as `asyncio.run` does
    at its end, or when nobody refers to it any more."""
    try:
        yield
    finally:
        await client.aclose()


def _search(query: str, settings: SearchSettings) -> HttpCall[SearchResult]:
    return HttpCall("/search", {"query": checked(query, "the query"), **_body(settings)}, found)


def _body(settings: SearchSettings) -> dict[str, Any]:
    """What was asked for; the server knows the defaults."""
    return settings.model_dump(exclude_unset=True)


def _rerank(query: str, texts: list[str], wish: PromptWish) -> HttpCall[list[Reranked]]:
    body = {"query": checked(query, "the query"), "documents": texts, "return_documents": False}
    return HttpCall("/rerank", {**body, "use_activation": False, **words(wish)}, passages(texts))


def _embed(texts: list[str], wish: PromptWish) -> HttpCall[npt.NDArray[np.float32]]:
    return HttpCall("/embeddings", {"input": texts, "encoding_format": "base64", **words(wish)}, vectors)


def _ascii(key: str) -> str:
    """A key as a header may hold it; raises InputError, which does not repeat it."""
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or not key:
        raise InputError("api_key must be text of printable ASCII characters; a key has no others")
    return key
