"""LangChain: a retriever, embeddings and a document compressor. Needs langchain-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from ..config import SearchSettings
from ..result import Reranked, SearchResult
from ..scoring.scale import logistic
from ..text.prompting import PASSAGE, PromptWish
from .backend import AnyBackend, Source, chosen, connect, wished
from .hits import metadata_of
from .missing import missing
from .parts import floats

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
except ModuleNotFoundError as error:
    raise missing("the adapter for LangChain", "langchain-core", error) from error


class LangChainRetriever(BaseRetriever):
    """Two-stage search. A document's metadata has its own, and `document`, `title`, `score`, `relevance` and the rest
    of a hit (see `hits`); its id is the passage's."""

    name: str | None = "TandemRetriever"
    backend: AnyBackend = Field(repr=False, exclude=True)
    settings: SearchSettings

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        settings: SearchSettings | None = None,
        **more: Any,
    ) -> None:
        """See `connect` for the first three. `more` are options of `SearchOptions`, in place of those in `settings`,
        and LangChain's own `name`, `tags` and `metadata`. Raises InputError."""
        own = {name: more.pop(name) for name in type(self).model_fields if name in more}
        super().__init__(
            backend=connect(backend, api_key=api_key, collection=collection), settings=chosen(settings, more), **own
        )

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return _documents(self.backend.search(query, chosen(self.settings, options)))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return _documents(await self.backend.asearch(query, chosen(self.settings, options)))


def _documents(result: SearchResult) -> list[Document]:
    return [Document(id=hit.id, page_content=hit.text, metadata=metadata_of(result, hit)) for hit in result.hits]


class LangChainEmbeddings(Embeddings):
    """The bi-encoder, with its own prompts for queries and for passages."""

    def __init__(
        self, backend: Source, *, api_key: str | None = None, collection: str | None = None, **wish: str | None
    ) -> None:
        """See `connect` for the first three; `wish` is the `prompt_name`, `prompt` or `instruction` of queries."""
        self.backend = connect(backend, api_key=api_key, collection=collection)
        self.query_wish = wished(**wish).for_query()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of passages."""
        return floats(self.backend.embed(texts, PromptWish(PASSAGE)))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return floats(self.backend.embed([text], self.query_wish))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents`, awaited."""
        return floats(await self.backend.aembed(texts, PromptWish(PASSAGE)))

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`, awaited."""
        return floats(await self.backend.aembed([text], self.query_wish))[0]


class LangChainReranker(BaseDocumentCompressor):
    """The cross-encoder. A document comes back with `relevance_score` in its metadata, 0 to 1, as LangChain's other
    rerankers call it, and `rerank_score`, the logit behind it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    backend: AnyBackend = Field(repr=False, exclude=True)
    top_n: int | None = Field(default=None, ge=1)
    wish: PromptWish

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        top_n: int | None = None,
        **wish: str | None,
    ) -> None:
        """See `connect` for the first three. `top_n`: documents that are kept, None for all. `wish` is the
        `prompt_name`, `prompt` or `instruction` of the query."""
        connected = connect(backend, api_key=api_key, collection=collection)
        super().__init__(backend=connected, top_n=top_n, wish=wished(**wish))

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best of `documents`, best first."""
        texts = [document.page_content for document in documents]
        return self._best(documents, self.backend.rerank(query, texts, self.wish))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents`, awaited."""
        texts = [document.page_content for document in documents]
        return self._best(documents, await self.backend.arerank(query, texts, self.wish))

    def _best(self, documents: Sequence[Document], ranked: list[Reranked]) -> list[Document]:
        return [_scored(documents[passage.index], passage.score) for passage in ranked[: self.top_n]]


def _scored(document: Document, logit: float) -> Document:
    scores = {"relevance_score": logistic(logit), "rerank_score": logit}
    return document.model_copy(update={"metadata": {**document.metadata, **scores}})
