"""What an adapter asks: an engine in this process, or a server by its URL. `connect` finds out which of the two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..config import SearchSettings
from ..engine import Engine
from ..errors import InputError
from ..result import Reranked, SearchResult
from ..text.prompting import PromptWish
from .in_process import EngineBackend, opened
from .over_http import HttpBackend

Vectors = npt.NDArray[np.float32]


_HOST = re.compile(r"(localhost|[\w.-]+:\d+)(/.*)?")


class Models(Protocol):
    """Two models without a collection, or one of them."""

    def rerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """The texts in the cross-encoder's order, best first, scored by its logits."""
        ...

    def embed(self, texts: Sequence[str], wish: PromptWish) -> Vectors:
        """float32 [n, d]: the bi-encoder's vectors."""
        ...


@runtime_checkable
class AnyBackend(Models, Protocol):
    """Two-stage search and both models. Where nothing answers, every method raises: a closed engine EngineClosed, a
    server what `http_answers.failure` says. `wish` is what stands around the query, or around texts to embed."""

    def search(self, query: str, settings: SearchSettings) -> SearchResult:
        """One search."""
        ...

    def search_many(self, queries: Sequence[str], settings: SearchSettings) -> list[SearchResult]:
        """One search for each query, several of them together."""
        ...

    async def asearch(self, query: str, settings: SearchSettings) -> SearchResult:
        """`search`, awaited; so are the others. Nothing of it runs on the event loop for long."""
        ...

    async def arerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """`rerank`, awaited."""
        ...

    async def aembed(self, texts: Sequence[str], wish: PromptWish) -> Vectors:
        """`embed`, awaited."""
        ...


Source = Engine | AnyBackend | str | Path
"""An open engine (which stays the caller's), a server's URL, the folder of a collection, or one that is connected."""


def connect(
    source: Source, *, api_key: str | None = None, collection: str | None = None, timeout_s: float | None = None
) -> AnyBackend:
    """What is behind `source`, for one or several adapters.

    api_key:    of a server that wants one
    collection: which of a server's collections; None: its first one
    timeout_s:  seconds until a server that does not answer is given up; None: `over_http.TIMEOUT_S`

    A server is not asked yet. A folder's engine is opened now, once for all that use it, and closed when none does.
    Raises InputError, and for a folder what `Engine.open` raises.
    """
    if is_url(source):
        return HttpBackend(source, api_key=api_key, collection=collection, timeout_s=timeout_s)
    given = {"api_key": api_key, "collection": collection, "timeout_s": timeout_s}
    if wrong := [name for name, value in given.items() if value is not None]:
        raise InputError(f"{' and '.join(wrong)} go with the URL of a server, and {_named(source)} is none")
    if isinstance(source, Engine):
        return EngineBackend(source)
    if isinstance(source, str) and _HOST.fullmatch(source) and not Path(source).exists():
        raise InputError(f"{source!r} looks like a server's address: write http:// before it")
    if isinstance(source, str | Path):
        return opened(Path(source))
    if isinstance(source, AnyBackend):
        return source
    raise InputError(f"give an open Engine, a server's URL or the folder of a collection, not {_named(source)}")


def is_url(source: object) -> TypeGuard[str]:
    """Whether it is the address of a server."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def _named(source: object) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else f"an object of type {type(source).__name__}"


def chosen(before: SearchSettings | None, options: dict[str, Any]) -> SearchSettings:
    """The options of a search: those of `before`, and `options` in their place. Raises InputError."""
    kept = {} if before is None else before.model_dump(exclude_unset=True)
    return SearchSettings(**{**kept, **options})


def wished(prompt_name: str | None = None, prompt: str | None = None, instruction: str | None = None) -> PromptWish:
    """What stands around a query, as `SearchOptions` calls it. Raises InputError."""
    return PromptWish(prompt_name, prompt, instruction)
