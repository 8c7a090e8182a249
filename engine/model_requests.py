"""Texts straight to a model: what an engine, and a model that is open by itself, have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from .models.cross_encoder import CrossEncoder
from .models.encoder import BiEncoder
from .models.model import LoadedModel
from .platform.device import Device
from .result import Embedded, Reranked, RerankResult
from .scheduling.batcher import Batcher
from .scheduling.request_steps import drive, drive_async
from .search.model_api import ModelApi
from .search.model_pool import ModelPool
from .text.prompting import PromptWish
from .text.tokens import Truncate


class ModelRequests(ABC):
    """Models on one device. Thread-safe; close it, or use it in a `with` block."""

    def __init__(self, pool: ModelPool) -> None:
        self.pool = pool

    @property
    @abstractmethod
    def _requests(self) -> ModelApi:
        """Raises EngineClosed once this is closed."""

    @property
    @abstractmethod
    def encoder(self) -> BiEncoder | None:
        """The bi-encoder; None: there is none."""

    @property
    @abstractmethod
    def reranker(self) -> CrossEncoder | None:
        """The cross-encoder; None: there is none."""

    @abstractmethod
    def close(self) -> None:
        """Take no more requests."""

    @property
    def device(self) -> Device:
        """Where the models run."""
        return self.pool.device

    @property
    def batcher(self) -> Batcher:
        """The device thread and its queues, for gauges."""
        return self.pool.batcher

    @property
    def models(self) -> list[LoadedModel]:
        """What is loaded: the encoder, the reranker, its early exit, as far as there are."""
        early = None if self.reranker is None else self.reranker.early
        return [model for model in (self.encoder, self.reranker, early) if model is not None]

    def embed(
        self,
        texts: Sequence[str],
        prompt_name: str | None = None,
        *,
        prompt: str | None = None,
        instruction: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """float32 [n, d]: vectors of `texts`, as `aembed` gives them: those of queries with `prompt_name="query"`."""
        wish = PromptWish(prompt_name, prompt, instruction)
        return drive(self._requests.embed(texts, wish)).vectors

    async def aembed(
        self,
        texts: Sequence[str],
        prompt_name: str | None = None,
        *,
        prompt: str | None = None,
        instruction: str | None = None,
        truncate: Truncate | None = None,
        client: str = "",
    ) -> Embedded:
        """Vectors of `texts`, of length 1 where the model is compared by cosine.

        Before each text stands one of the model's prompts (`query`, `passage`, or a name of its own), or `prompt`
        itself, or what the model has around an `instruction`, the task in words; where none is given, nothing.

        `truncate`: where texts that are too long are cut; None: where the model cuts them; never: they are an
        InputError, as other wrong input is.
        """
        wish = PromptWish(prompt_name, prompt, instruction)
        request = self._requests.embed(texts, wish, truncate=truncate, client=client)
        return await drive_async(request, self.pool.steps)

    def rerank(
        self,
        query: str,
        texts: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        instruction: str | None = None,
    ) -> list[Reranked]:
        """The caller's passages in the cross-encoder's order, best first: `texts`, or `ids` of stored passages. A blank
        text comes last, with the score `model_api.BLANK`.

        Raises InputError when neither or both are given, when an id is not in the collection, and for a prompt or an
        instruction (see `arerank`) that the model does not take.
        """
        wish = PromptWish(prompt_name, prompt, instruction)
        return drive(self._requests.rerank(query, texts, ids, wish=wish)).passages

    async def arerank(
        self,
        query: str,
        texts: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        instruction: str | None = None,
        truncate: Truncate | None = None,
        passage_tokens: int | None = None,
        budget_ms: float | None = None,
        client: str = "",
    ) -> RerankResult:
        """`rerank`, awaited. `passage_tokens` cuts passages; too long a pair is cut on the side of `truncate`
        (None: as the model does), and with never an InputError.

        Before the query stands one of the model's prompts by its name, or `prompt` itself, in place of the model's
        default; a model that takes one reads an `instruction`, the task in words.

        Within `budget_ms` as many as fit are scored, in the order given; the others follow them with the lowest score
        that was given, and `degraded` says so.
        """
        request = self._requests.rerank(
            query, texts, ids, truncate=truncate, passage_tokens=passage_tokens, budget_ms=budget_ms,
            wish=PromptWish(prompt_name, prompt, instruction), client=client,
        )  # fmt: skip
        return await drive_async(request, self.pool.steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
