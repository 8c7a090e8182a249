"""The backend that is an engine of this process."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from ..config import SearchSettings
from ..engine import Engine
from ..result import Reranked, SearchResult
from ..text.prompting import PromptWish
from .parts import joined, told, united, words
from .parts import parts as parts_of


class EngineBackend:
    """An open engine, which whoever opened it closes; a closed one raises EngineClosed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def search(self, query: str, settings: SearchSettings) -> SearchResult:
        """See `AnyBackend`."""
        return told(self.engine.search(query, **settings.model_dump(exclude_unset=True)))

    def search_many(self, queries: Sequence[str], settings: SearchSettings) -> list[SearchResult]:
        """See `AnyBackend`."""
        asked = {**settings.model_dump(exclude_unset=True), "budget_ms": settings.budget_ms}
        return [told(result) for result in self.engine.search_many(queries, **asked)]

    async def asearch(self, query: str, settings: SearchSettings) -> SearchResult:
        """See `AnyBackend`."""
        return told(await self.engine.asearch(query, settings))

    def rerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `AnyBackend`."""
        return united(texts, [self.engine.rerank(query, part, **words(wish)) for part in parts_of(texts)])

    async def arerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `AnyBackend`."""
        results = [await self.engine.arerank(query, part, **words(wish)) for part in parts_of(texts)]
        return united(texts, [result.passages for result in results])

    def embed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `AnyBackend`."""
        return joined([self.engine.embed(part, **words(wish)) for part in parts_of(texts)])

    async def aembed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `AnyBackend`."""
        results = [await self.engine.aembed(part, **words(wish)) for part in parts_of(texts)]
        return joined([result.vectors for result in results])


_opening = Lock()
_folders: weakref.WeakValueDictionary[Path, EngineBackend] = weakref.WeakValueDictionary()


def opened(folder: Path) -> EngineBackend:
    """The engine of a collection, opened unless it is; it is closed with the last that uses it.

    Raises what `Engine.open` raises.
    """
    where = folder.resolve()
    with _opening:
        backend = _folders.get(where)
        if backend is None or backend.engine.is_closed:
            engine = Engine.open(folder)
            backend = _folders[where] = EngineBackend(engine)
            weakref.finalize(backend, engine.close)
        return backend
