"""Haystack 2: a retriever, a ranker, a text embedder and a document embedder. Needs haystack-ai.

A component that was given a URL, or the folder of a collection, can be saved with its pipeline. A folder is opened by
`warm_up`, which a pipeline calls before it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ..config import SearchOptions
from ..errors import InputError
from ..result import Reranked, SearchResult
from ..scoring.scale import logistic
from ..text.prompting import PASSAGE, PromptWish
from .backend import AnyBackend, Source, chosen, connect, is_url, wished
from .haystack_filters import translated
from .hits import metadata_of
from .missing import missing
from .parts import floats

try:
    from haystack import Document, component, default_to_dict
    from haystack.utils import Secret
except ModuleNotFoundError as error:
    raise missing("the adapter for Haystack", "haystack-ai", error) from error

# What Haystack keeps in fields of a document; its flat form would mix up metadata of these names with them.
_FIELDS = ("id", "content", "blob", "score", "embedding", "sparse_embedding")


class _Connected:
    """A component's backend, and its saved form: what the constructor was given, of which `options` are the rest."""

    def _connect(self, backend: Source, api_key: Secret | str | None, collection: str | None, **options: Any) -> None:
        self._given = {"backend": backend, "api_key": api_key, "collection": collection, **options}
        self._backend: AnyBackend | None = None
        if is_url(backend) or not isinstance(backend, str | Path):
            self.warm_up()  # costs nothing, and says at once what is wrong

    def warm_up(self) -> None:
        """Open what was given, unless it is open."""
        if self._backend is None:
            key, collection = self._given["api_key"], self._given["collection"]
            secret = key.resolve_value() if isinstance(key, Secret) else key
            self._backend = connect(self._given["backend"], api_key=secret, collection=collection)

    async def warm_up_async(self) -> None:
        """`warm_up`, awaited."""
        if self._backend is None:
            await asyncio.to_thread(self.warm_up)

    @property
    def backend(self) -> AnyBackend:
        """What answers."""
        self.warm_up()
        assert self._backend is not None
        return self._backend

    async def _awaited(self) -> AnyBackend:
        await self.warm_up_async()
        return self.backend

    def to_dict(self) -> dict[str, Any]:
        """The saved form. Raises InputError for an open engine, and for a key that was given as text."""
        backend, key = self._given["backend"], self._given["api_key"]
        if not isinstance(backend, str | Path):
            raise InputError("an open engine cannot be saved; give the component a URL, or the folder of a collection")
        if isinstance(key, str):
            raise InputError("api_key would be saved as text: give Secret.from_env_var(NAME)")
        saved: dict[str, Any] = default_to_dict(self, **{**self._given, "backend": str(backend)})
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved form."""
        given = dict(data["init_parameters"])
        if given.get("api_key") is not None:
            given["api_key"] = Secret.from_dict(given["api_key"])
        return cls(**given)


@component
class HaystackRetriever(_Connected):
    """Two-stage search. Each option of `SearchOptions` is an argument of the constructor, and an input of the component
    that takes its place for one run. A document's score is the hit's, its id the passage's; its meta has its own, and
    the rest of the hit (see `hits`)."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: Secret | str | None = None,
        collection: str | None = None,
        **options: Any,
    ) -> None:
        """See `connect` for the first three. `filters` may be of Haystack's form or of ours. Raises InputError."""
        self._settings = chosen(None, _ours(options))
        self._connect(backend, api_key, collection, **options)
        for name, field in SearchOptions.model_fields.items():
            component.set_input_type(self, name, field.annotation, getattr(self._settings, name))

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, query: str, **options: Any) -> dict[str, Any]:
        """`documents`, best first; `meta` has what was left undone, the milliseconds and the version searched."""
        return _found(self.backend.search(query, chosen(self._settings, _ours(options))))

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, query: str, **options: Any) -> dict[str, Any]:
        """`run`, awaited."""
        return _found(await (await self._awaited()).asearch(query, chosen(self._settings, _ours(options))))


def _ours(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "filters": translated(options["filters"])} if options.get("filters") else options


def _found(result: SearchResult) -> dict[str, Any]:
    documents = [
        Document(id=hit.id, content=hit.text, score=hit.score, meta=metadata_of(result, hit, _FIELDS))
        for hit in result.hits
    ]
    told = ("degraded", "degraded_code", "warnings", "candidates", "reranked", "version")
    meta = {name: getattr(result, name) for name in told} | {"total_ms": result.timings.total}
    return {"documents": documents, "meta": meta}


def _texts(documents: Sequence[Document], fields: Sequence[str]) -> list[str]:
    """What is read of each: the values of these fields of its meta, then its content, a line each."""
    named = [[str(each.meta[name]) for name in fields if each.meta.get(name) is not None] for each in documents]
    return ["\n".join([*values, each.content or ""]) for values, each in zip(named, documents, strict=True)]


@component
class HaystackRanker(_Connected):
    """The cross-encoder. A document's score is the logistic of the logit, 0 to 1; `rerank_score` in its meta is the
    logit."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: Secret | str | None = None,
        collection: str | None = None,
        top_k: int | None = None,
        meta_fields_to_embed: Sequence[str] = (),
        **wish: str | None,
    ) -> None:
        """See `connect` for the first three. `top_k`: documents that are kept, None for all; `meta_fields_to_embed`:
        read before the content; `wish` is the `prompt_name`, `prompt` or `instruction` of the query."""
        self._wish, self._top_k, self._fields = wished(**wish), _most(top_k), list(meta_fields_to_embed)
        self._connect(backend, api_key, collection, top_k=top_k, meta_fields_to_embed=self._fields, **wish)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The best of `documents`, best first."""
        ranked = self.backend.rerank(query, _texts(documents, self._fields), self._wish)
        return {"documents": self._best(documents, ranked, top_k)}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`run`, awaited."""
        ranked = await (await self._awaited()).arerank(query, _texts(documents, self._fields), self._wish)
        return {"documents": self._best(documents, ranked, top_k)}

    def _best(self, documents: list[Document], ranked: list[Reranked], top_k: int | None) -> list[Document]:
        most = self._top_k if top_k is None else _most(top_k)
        return [_scored(documents[passage.index], passage.score) for passage in ranked[:most]]


def _most(top_k: int | None) -> int | None:
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; give at least 1, or None for all documents")
    return top_k


def _scored(document: Document, logit: float) -> Document:
    return replace(document, score=logistic(logit), meta={**document.meta, "rerank_score": logit})


@component
class HaystackTextEmbedder(_Connected):
    """The bi-encoder, with its own prompt for queries."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: Secret | str | None = None,
        collection: str | None = None,
        **wish: str | None,
    ) -> None:
        """See `connect` for the first three; `wish` is the `prompt_name`, `prompt` or `instruction` of the text."""
        self._wish = wished(**wish).for_query()
        self._connect(backend, api_key, collection, **wish)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a query."""
        return {"embedding": floats(self.backend.embed([text], self._wish))[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run`, awaited."""
        return {"embedding": floats(await (await self._awaited()).aembed([text], self._wish))[0]}


@component
class HaystackDocumentEmbedder(_Connected):
    """The bi-encoder, with its own prompt for passages."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: Secret | str | None = None,
        collection: str | None = None,
        meta_fields_to_embed: Sequence[str] = (),
    ) -> None:
        """See `connect` for the first three; `meta_fields_to_embed`: read before the content."""
        self._fields = list(meta_fields_to_embed)
        self._connect(backend, api_key, collection, meta_fields_to_embed=self._fields)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """`documents` with their vectors."""
        return _embedded(documents, self.backend.embed(_texts(documents, self._fields), PromptWish(PASSAGE)))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run`, awaited."""
        return _embedded(
            documents, await (await self._awaited()).aembed(_texts(documents, self._fields), PromptWish(PASSAGE))
        )


def _embedded(documents: list[Document], vectors: Any) -> dict[str, Any]:
    pairs = zip(documents, floats(vectors), strict=True)
    return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
