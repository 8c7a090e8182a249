"""What is asked of an engine, as plain values: the same calls in this process and over a worker's socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..config import SearchSettings
from ..engine import Engine
from ..models.encoder import TextKind
from ..result import Embedded, RerankResult
from ..text.tokens import Truncate
from .search_response import SearchResponse, found

Answer = TypeVar("Answer", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """Something that an engine does; `client` is whose turn it takes at the device."""

    client: str

    async def run(self, engine: Engine) -> Answer:
        """Do it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SearchCall(Call[SearchResponse]):
    """Two-stage search; `return_text` is whether hits have their texts."""

    query: str
    settings: SearchSettings
    return_text: bool = True

    async def run(self, engine: Engine) -> SearchResponse:
        result = await engine.asearch(self.query, self.settings, client=self.client)
        return found(result, return_text=self.return_text)


@dataclass(frozen=True, slots=True)
class Rerank(Call[RerankResult]):
    """Score passages given as `texts`, or as `ids` of stored ones (see `Engine.arerank`)."""

    query: str
    texts: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    truncate: Truncate = "right"
    passage_tokens: int | None = None
    budget_ms: float | None = None

    async def run(self, engine: Engine) -> RerankResult:
        return await engine.arerank(
            self.query, self.texts, ids=self.ids, truncate=self.truncate, passage_tokens=self.passage_tokens,
            budget_ms=self.budget_ms, client=self.client,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Embed(Call[Embedded]):
    """Unit vectors of `texts` (see `Engine.aembed`)."""

    texts: Sequence[str]
    kind: TextKind | None = None
    truncate: Truncate = "right"

    async def run(self, engine: Engine) -> Embedded:
        return await engine.aembed(self.texts, self.kind, truncate=self.truncate, client=self.client)


@dataclass(frozen=True, slots=True)
class Tokenize(Call[list[list[dict[str, Any]]]]):
    """The encoder's tokens of `texts`, with their places in them."""

    texts: Sequence[str]
    kind: TextKind | None = None
    special: bool = True

    async def run(self, engine: Engine) -> list[list[dict[str, Any]]]:
        return await asyncio.to_thread(self._tokens, engine)

    def _tokens(self, engine: Engine) -> list[list[dict[str, Any]]]:
        encoder = engine.encoder
        texts = [encoder.prompted(text, self.kind) for text in self.texts] if self.kind else self.texts
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
    """Texts of the encoder's token ids."""

    rows: Sequence[Sequence[int]]
    skip_special: bool = True

    async def run(self, engine: Engine) -> list[str]:
        decode = engine.encoder.tokenizer.decode
        return await asyncio.to_thread(lambda: [decode(row, skip_special=self.skip_special) for row in self.rows])
