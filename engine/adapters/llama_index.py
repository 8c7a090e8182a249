"""LlamaIndex: a retriever, a node postprocessor and an embedding. Needs llama-index-core."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr

from ..errors import InputError
from ..result import Hit, Reranked, SearchResult
from ..scoring.scale import logistic
from ..text.prompting import PASSAGE, PromptWish
from .backend import AnyBackend, Source, chosen, connect, wished
from .hits import FACTS, OF_THE_SEARCH, metadata_of
from .missing import missing
from .parts import floats

try:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import (
        MetadataMode,
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
except ModuleNotFoundError as error:
    raise missing("the adapter for LlamaIndex", "llama-index-core", error) from error

_dispatcher = get_dispatcher(__name__)
# Scores and places are nothing that a model should read beside the text; the title and the document's own metadata are.
_NOT_TO_READ = [name for name in (*FACTS, *OF_THE_SEARCH) if name != "title"]


class LlamaIndexRetriever(BaseRetriever):
    """Two-stage search. A node's score is the hit's; its metadata has the document's own, and the rest of a hit (see
    `hits`), of which an LLM or an embedding is shown the title. Its id is the passage's, its source the document."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        callback_manager: CallbackManager | None = None,
        **options: Any,
    ) -> None:
        """See `connect` for the first three. `options` are those of `SearchOptions`. Raises InputError."""
        self.backend = connect(backend, api_key=api_key, collection=collection)
        self.settings = chosen(None, options)
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(self.backend.search(query_bundle.query_str, self.settings))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(await self.backend.asearch(query_bundle.query_str, self.settings))


def _nodes(result: SearchResult) -> list[NodeWithScore]:
    return [NodeWithScore(node=_node(result, hit), score=hit.score) for hit in result.hits]


def _node(result: SearchResult, hit: Hit) -> TextNode:
    return TextNode(
        id_=hit.id,
        text=hit.text,
        metadata=metadata_of(result, hit),
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.document)},
        excluded_embed_metadata_keys=_NOT_TO_READ,
        excluded_llm_metadata_keys=_NOT_TO_READ,
    )


class LlamaIndexReranker(BaseNodePostprocessor):
    """The cross-encoder. A node's score is the logistic of the logit, 0 to 1. The nodes that are given keep theirs."""

    top_n: int | None = Field(default=None, ge=1, description="Nodes that are kept; none: all")
    metadata_mode: MetadataMode = Field(default=MetadataMode.NONE, description="What of the metadata is read too")
    _backend: AnyBackend = PrivateAttr()
    _wish: PromptWish = PrivateAttr()

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        top_n: int | None = None,
        metadata_mode: MetadataMode = MetadataMode.NONE,
        callback_manager: CallbackManager | None = None,
        **wish: str | None,
    ) -> None:
        """See `connect` for the first three; `wish` is the `prompt_name`, `prompt` or `instruction` of the query."""
        manager = {} if callback_manager is None else {"callback_manager": callback_manager}
        super().__init__(top_n=top_n, metadata_mode=metadata_mode, **manager)
        self._backend = connect(backend, api_key=api_key, collection=collection)
        self._wish = wished(**wish)

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "TandemReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts = self._begun(nodes, query_bundle)
        return self._ended(nodes, self._backend.rerank(query, texts, self._wish))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts = self._begun(nodes, query_bundle)
        return self._ended(nodes, await self._backend.arerank(query, texts, self._wish))

    def _begun(self, nodes: list[NodeWithScore], query: QueryBundle | None) -> tuple[str, list[str]]:
        if query is None:
            raise InputError("a reranker needs the query: give query_str or query_bundle")
        top_n = len(nodes) if self.top_n is None else self.top_n
        _dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=self.class_name()))
        return query.query_str, [each.node.get_content(metadata_mode=self.metadata_mode) for each in nodes]

    def _ended(self, nodes: list[NodeWithScore], ranked: list[Reranked]) -> list[NodeWithScore]:
        best = [
            NodeWithScore(node=nodes[passage.index].node, score=logistic(passage.score))
            for passage in ranked[: self.top_n]
        ]
        _dispatcher.event(ReRankEndEvent(nodes=best))
        return best


class LlamaIndexEmbedding(BaseEmbedding):
    """The bi-encoder, with its own prompts for queries and for passages."""

    model_name: str = "tandem"
    embed_batch_size: int = Field(default=256, gt=0, le=2048, description="Texts of one call")
    _backend: AnyBackend = PrivateAttr()
    _query_wish: PromptWish = PrivateAttr()

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        instruction: str | None = None,
        **more: Any,
    ) -> None:
        """See `connect` for the first three; the next are those of queries; `more` are fields of `BaseEmbedding`."""
        super().__init__(**more)
        self._backend = connect(backend, api_key=api_key, collection=collection)
        self._query_wish = wished(prompt_name, prompt, instruction).for_query()

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "TandemEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return floats(self._backend.embed([query], self._query_wish))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return floats(await self._backend.aembed([query], self._query_wish))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return floats(self._backend.embed(texts, PromptWish(PASSAGE)))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return floats(await self._backend.aembed(texts, PromptWish(PASSAGE)))
