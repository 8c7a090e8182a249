"""What is asked of an engine, as plain values: the same calls in this process and over a worker's socket.

A call is declared once: its fields are what a frame holds of it, `answer` the type of what comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import orjson
from pydantic import TypeAdapter

from ..collection import Document, Pointer, Updated
from ..config import SearchSettings
from ..engine import Engine
from ..model_requests import ModelRequests
from ..models.model import LoadedModel
from ..result import Embedded, RerankResult, Timings
from ..text.prompting import NO_WISH, PromptWish
from ..text.tokens import Truncate
from .engines import Engines, Wanted
from .model_info import Facts
from .search_response import SearchResponse, found

Answer = TypeVar("Answer", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """Something that an engine does; `client` is whose turn it takes at the device."""

    client: str
    answer: ClassVar[Any]

    async def run(self, engine: Engine) -> Answer:
        """Do it."""
        raise NotImplementedError

    async def run_of(self, engines: Engines, name: str) -> Answer:
        """Do it with the engine of that name; raises CollectionError when there is none."""
        return await self.run(engines.engine(name))

    def pack(self, answer: Any) -> tuple[Any, bytes]:
        """An answer as a frame holds it: what orjson writes, and bytes behind it."""
        return answer, b""

    def unpack(self, document: Any, blob: bytes) -> Answer:
        """The answer that was packed; raises pydantic's ValidationError for what is none."""
        return cast(Answer, _made(self.answer, document))


def _made(declared: Any, plain: Any) -> Any:
    return _shape(declared).validate_python(plain)


@cache
def _shape(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)


def call_named(name: str, arguments: dict[str, Any]) -> Call[Any]:
    """The call of a class's name; raises KeyError for none of ours, pydantic's ValidationError for wrong arguments."""
    kinds = {kind.__name__: kind for kind in Call.__subclasses__()}
    return cast("Call[Any]", _made(kinds[name], arguments))


@dataclass(frozen=True, slots=True)
class SearchCall(Call[SearchResponse]):
    """Two-stage search; `return_text` is whether hits have their texts."""

    query: str
    settings: SearchSettings
    return_text: bool = True
    answer: ClassVar[Any] = SearchResponse

    async def run(self, engine: Engine) -> SearchResponse:
        result = await engine.asearch(self.query, self.settings, client=self.client)
        return found(result, return_text=self.return_text)

    def pack(self, answer: SearchResponse) -> tuple[Any, bytes]:
        return {"body": "", "timings": answer.timings, "degraded_code": answer.degraded_code}, answer.body

    def unpack(self, document: Any, blob: bytes) -> SearchResponse:
        return replace(cast(SearchResponse, _made(SearchResponse, document)), body=blob)


@dataclass(frozen=True, slots=True)
class Rerank(Call[RerankResult]):
    """Score passages given as `texts`, or as `ids` of stored ones (see `Engine.arerank`)."""

    query: str
    texts: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    truncate: Truncate | None = None
    passage_tokens: int | None = None
    budget_ms: float | None = None
    wish: PromptWish = NO_WISH
    answer: ClassVar[Any] = RerankResult

    async def run_of(self, engines: Engines, name: str) -> RerankResult:
        return await self.run(engines[name])

    async def run(self, engine: ModelRequests) -> RerankResult:
        wish = self.wish
        return await engine.arerank(
            self.query, self.texts, ids=self.ids, truncate=self.truncate, passage_tokens=self.passage_tokens,
            budget_ms=self.budget_ms, prompt_name=wish.name, prompt=wish.text, instruction=wish.instruction,
            client=self.client,
        )  # fmt: skip

    def pack(self, answer: RerankResult) -> tuple[Any, bytes]:
        """Without the texts that the caller gave."""
        if self.texts is None:
            return answer, b""
        return replace(answer, passages=[replace(passage, text=None) for passage in answer.passages]), b""


@dataclass(frozen=True, slots=True)
class Embed(Call[Embedded]):
    """Vectors of `texts` (see `Engine.aembed`)."""

    texts: Sequence[str]
    wish: PromptWish = NO_WISH
    truncate: Truncate | None = None
    answer: ClassVar[Any] = Embedded

    async def run_of(self, engines: Engines, name: str) -> Embedded:
        return await self.run(engines[name])

    async def run(self, engine: ModelRequests) -> Embedded:
        wish = self.wish
        return await engine.aembed(
            self.texts, wish.name, prompt=wish.text, instruction=wish.instruction, truncate=self.truncate,
            client=self.client,
        )  # fmt: skip

    def pack(self, answer: Embedded) -> tuple[Any, bytes]:
        """Vectors as bytes: float32, row by row."""
        told = {name: getattr(answer, name) for name in ("tokens", "truncated", "timings")}
        return {**told, "shape": answer.vectors.shape}, answer.vectors.astype("<f4").tobytes()

    def unpack(self, document: Any, blob: bytes) -> Embedded:
        vectors = np.frombuffer(blob, dtype="<f4").reshape(document.pop("shape"))
        return Embedded(vectors=vectors, **{**document, "timings": Timings(**document["timings"])})


@dataclass(frozen=True, slots=True)
class Add(Call[Updated]):
    """Add documents, or replace those whose ids are there (see `Engine.add`)."""

    documents: Sequence[Document]
    answer: ClassVar[Any] = Updated

    async def run(self, engine: Engine) -> Updated:
        return await asyncio.to_thread(engine.add, self.documents)


@dataclass(frozen=True, slots=True)
class Delete(Call[Updated]):
    """Delete documents by their ids, or by a filter of their metadata (see `Engine.delete`)."""

    ids: Sequence[str] = ()
    filters: dict[str, Any] | None = None
    answer: ClassVar[Any] = Updated

    async def run(self, engine: Engine) -> Updated:
        return await asyncio.to_thread(partial(engine.delete, self.ids, filters=self.filters))


@dataclass(frozen=True, slots=True)
class Refresh(Call[Facts]):
    """Search the collection's current version from now on (see `Engine.refresh`), and say what it is."""

    answer: ClassVar[Any] = Facts

    async def run_of(self, engines: Engines, name: str) -> Facts:
        await asyncio.to_thread(engines.engine(name).refresh)
        return engines.facts(name)


@dataclass(frozen=True, slots=True)
class Open(Call[Facts]):
    """Open the collection in the folder `path` beside the others, under the name that the call goes to."""

    path: str
    version: Pointer | None = None
    answer: ClassVar[Any] = Facts

    async def run_of(self, engines: Engines, name: str) -> Facts:
        return await asyncio.to_thread(engines.open, Wanted(name, Path(self.path), self.version))


@dataclass(frozen=True, slots=True)
class Close(Call[None]):
    """Close the engine that the call goes to; the others go on."""

    answer: ClassVar[Any] = None

    async def run_of(self, engines: Engines, name: str) -> None:
        await asyncio.to_thread(engines.close, name)


@dataclass(frozen=True, slots=True)
class Tokenize(Call[bytes]):
    """The first model's tokens of `texts`, with their places in them, as the client gets them: megabytes of JSON."""

    texts: Sequence[str]
    wish: PromptWish = NO_WISH
    special: bool = True

    async def run_of(self, engines: Engines, name: str) -> bytes:
        return await self.run(engines[name])

    async def run(self, engine: ModelRequests) -> bytes:
        return await asyncio.to_thread(lambda: orjson.dumps(self._tokens(engine)))

    def pack(self, answer: bytes) -> tuple[Any, bytes]:
        return None, answer

    def unpack(self, document: Any, blob: bytes) -> bytes:
        return blob

    def _tokens(self, engine: ModelRequests) -> list[list[dict[str, Any]]]:
        encoder = _first(engine)
        before = encoder.artifact.manifest.prompting.before_text(self.wish)
        texts = [before + text for text in self.texts]
        return [
            [
                {"id": token, "text": name, "special": True, "start": None, "stop": None}
                if special
                else {"id": token, "text": text[start:stop], "special": False, "start": start, "stop": stop}
                for token, name, special, (start, stop) in zip(
                    encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
                )
            ]
            for text, encoding in zip(texts, encoder.tokenizer.encodings(texts, special=self.special), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Decode(Call[list[str]]):
    """Texts of the first model's token ids."""

    rows: Sequence[Sequence[int]]
    skip_special: bool = True
    answer: ClassVar[Any] = list[str]

    async def run_of(self, engines: Engines, name: str) -> list[str]:
        return await self.run(engines[name])

    async def run(self, engine: ModelRequests) -> list[str]:
        decode = _first(engine).tokenizer.decode
        return await asyncio.to_thread(lambda: [decode(row, skip_special=self.skip_special) for row in self.rows])


def _first(engine: ModelRequests) -> LoadedModel:
    """The encoder, or the cross-encoder that is there alone."""
    return engine.models[0]
