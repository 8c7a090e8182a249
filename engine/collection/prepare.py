"""Documents → passages with their token ids: chunked, and tokenised once wherever the models can share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from ..platform.npy import Array
from ..text.tokenizer import Tokenizer
from ..text.tokens import TokenBatch, concatenate
from . import chunking
from .document import HASH, Document, content_hash
from .manifest import IndexSettings, TokenDtype
from .passage_text import PassageText, written
from .ragged import encode_strings

DOCUMENTS = 512
"""Documents tokenised at a time: enough for the tokenizer's threads, little to hold."""
STORES = ("ids", "titles", "texts", "metadata")
WHOLE = 0
"""Chunk number of a passage that is a whole document; chunks count from 1."""


@dataclass(slots=True)
class Passages:
    """Some passages, column by column; `places` are (chunk, start, end): its number and characters in its document."""

    documents: int = 0
    ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, document: Document, metadata: str, content: bytes, chunk: int, span: chunking.Span) -> None:
        """One more passage: the characters `span` of a document, whose hash is `content`."""
        self.ids.append(document.id if chunk == WHOLE else f"{document.id}#{chunk}")
        self.titles.append(document.title)
        self.texts.append(document.text[span[0] : span[1]])
        self.metadata.append(metadata)
        self.places.append((chunk, *span))
        self.contents.append(content)

    def encoder_tokens(self) -> TokenBatch:
        """What the bi-encoder reads of each passage, without special tokens."""
        return concatenate([tokens.encoder for tokens in self.tokens])

    def arrays(self, token_dtype: str | None) -> dict[str, Array]:
        """The columns as a shard keeps them: flat data and lengths."""
        arrays: dict[str, Array] = {
            "places": np.array(self.places, dtype=np.int64).reshape(-1, 3),
            "contents": np.frombuffer(b"".join(self.contents), dtype=np.uint8).reshape(-1, HASH),
        }
        for name in STORES:
            arrays[name], arrays[f"{name}.lengths"] = encode_strings(getattr(self, name))
        if token_dtype is not None:
            batch = concatenate([tokens.reranker for tokens in self.tokens if tokens.reranker is not None])
            arrays["tokens"], arrays["tokens.lengths"] = batch.ids.astype(token_dtype), batch.lengths
        return arrays


@dataclass(frozen=True, slots=True)
class Tokens:
    """What each model reads of the same texts; the same object twice where they share."""

    encoder: TokenBatch
    reranker: TokenBatch | None

    def then(self, other: Tokens) -> Tokens:
        """These texts, and those of `other` behind them."""
        encoder = concatenate([self.encoder, other.encoder])
        if self.reranker is None or other.reranker is None:
            return Tokens(encoder, None)
        if self.reranker is self.encoder:
            return Tokens(encoder, encoder)
        return Tokens(encoder, concatenate([self.reranker, other.reranker]))

    def select(self, rows: list[int]) -> Tokens:
        """The texts `rows`, in that order."""
        encoder = self.encoder.select(rows)
        if self.reranker is None or self.reranker is self.encoder:
            return Tokens(encoder, self.reranker and encoder)
        return Tokens(encoder, self.reranker.select(rows))


class Preparer:
    """Turns documents into passages for one encoder and, where there is one, one reranker."""

    def __init__(
        self, encoder: Tokenizer, reranker: PassageText | None, settings: IndexSettings, passage_prompt: str = ""
    ) -> None:
        """`reranker`: how it is given passages; None leaves them without token ids for one."""
        other = None if reranker is None else reranker.tokenizer
        self.limits = chunking.limits(settings.chunk_tokens, settings.overlap, encoder, other, passage_prompt)
        self.reranker = reranker
        self._encoder = encoder
        self._settings = settings
        self._prompt = passage_prompt
        self._prompt_tokens = encoder.count(passage_prompt)
        same_rules = other is None or other.fingerprint == encoder.fingerprint
        self._counters = [encoder] if other is None or same_rules else [encoder, other]
        self._shared = same_rules and (
            reranker is None or (reranker.before, reranker.titled) == (passage_prompt, settings.encode_title)
        )

    @property
    def token_dtype(self) -> TokenDtype | None:
        """See `PassageText.token_dtype`; None without a reranker."""
        return None if self.reranker is None else self.reranker.token_dtype

    def shards(self, documents: Iterator[Document], size: int) -> Iterator[Passages]:
        """Whole documents' passages, `size` or a few more at a time."""
        shard = Passages()
        while some := list(islice(documents, min(DOCUMENTS, size))):
            self._add(shard, some)
            if len(shard) >= size:
                yield shard
                shard = Passages()
        if len(shard):
            yield shard

    def _add(self, shard: Passages, documents: Sequence[Document]) -> None:
        """Append the passages of `documents`. What fits is tokenised once; only what is too long is chunked."""
        whole = self._tokenize([document.title for document in documents], [document.text for document in documents])
        fits = self._fit(whole)
        first = len(shard)
        order: list[int] = []
        chunks = 0
        for place, document in enumerate(documents):
            metadata = json.dumps(document.metadata, ensure_ascii=False) if document.metadata else ""
            content = content_hash(document)
            spans = [] if fits[place] else self._chunk(document)
            if not spans:
                shard.append(document, metadata, content, WHOLE, (0, len(document.text)))
                order.append(place)
            for number, span in enumerate(spans, 1):
                shard.append(document, metadata, content, number, span)
                order.append(len(documents) + chunks)
                chunks += 1
        if chunks:
            cut = [place for place, source in enumerate(order, first) if source >= len(documents)]
            pieces = self._tokenize([shard.titles[place] for place in cut], [shard.texts[place] for place in cut])
            whole = whole.then(pieces).select(order)
        shard.tokens.append(whole)
        shard.documents += len(documents)

    def _tokenize(self, titles: Sequence[str], texts: Sequence[str]) -> Tokens:
        encoder = self._encoder.encode_many(written(self._prompt, titles, texts, titled=self._settings.encode_title))
        if self.reranker is None:
            return Tokens(encoder, None)
        return Tokens(encoder, encoder if self._shared else self.reranker.encode(titles, texts))

    def _fit(self, tokens: Tokens) -> Sequence[bool]:
        limit = self.limits.tokens
        if limit == 0:
            return [True] * len(tokens.encoder)
        fits = tokens.encoder.lengths <= limit + self._prompt_tokens
        if tokens.reranker is not None:
            fits &= tokens.reranker.lengths <= limit
        return [bool(fit) for fit in fits]

    def _chunk(self, document: Document) -> list[chunking.Span]:
        """Spans of a document that is too long; none when it is one passage after all (its end is white space).

        A title that is put before every chunk takes its tokens from the chunk, at most half of them.
        """
        limit = self.limits
        if document.title and (self._settings.encode_title or self._settings.rerank_title):
            title = min(self._count(document.title) + 1, limit.tokens // 2)
            limit = replace(limit, tokens=limit.tokens - title, overlap=min(limit.overlap, (limit.tokens - title) // 2))
        spans = chunking.chunk(document.text, limit, self._count)
        return spans if len(spans) > 1 else []

    def _count(self, text: str) -> int:
        return max(tokenizer.count(text) for tokenizer in self._counters)
