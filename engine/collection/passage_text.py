"""What a reranker is given of a passage, as text and as token ids: decided here, for indexing and for searching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..models.artifact import Artifact, ArtifactManifest
from ..text.tokenizer import Tokenizer
from ..text.tokens import TokenBatch
from .document import with_title
from .manifest import IndexSettings, TokenDtype, TokenSource


@dataclass(frozen=True, slots=True)
class PassageText:
    """The form in which one reranker reads the passages of one collection.

    titled: a passage's title stands before its text
    before: text of the model's own that stands before both and is tokenised with them
    """

    tokenizer: Tokenizer
    titled: bool
    before: str = ""

    @classmethod
    def of(cls, artifact: Artifact, settings: IndexSettings) -> PassageText:
        """The form for the cross-encoder `artifact` in a collection with these `settings`."""
        return cls(artifact.tokenizer(), settings.rerank_title, text_before(artifact.manifest))

    @property
    def source(self) -> TokenSource:
        """What a collection keeps of it: ids made with an equal one are the same."""
        return TokenSource(tokenizer=self.tokenizer.fingerprint, before=self.before)

    @property
    def token_dtype(self) -> TokenDtype:
        """What ids are stored as."""
        return token_dtype(self.tokenizer.vocab_size)

    def written(self, titles: Iterable[str], texts: Iterable[str]) -> list[str]:
        """Passages as text."""
        return written(self.before, titles, texts, titled=self.titled)

    def encode(self, titles: Iterable[str], texts: Iterable[str]) -> TokenBatch:
        """Their token ids without special tokens, not truncated; raises InferenceError."""
        return self.tokenizer.encode_many(self.written(titles, texts))


def token_dtype(vocabulary: int) -> TokenDtype:
    """What ids below `vocabulary` are stored as: uint16 where they fit."""
    return "uint16" if vocabulary <= 2**16 else "uint32"


def written(before: str, titles: Iterable[str], texts: Iterable[str], *, titled: bool) -> list[str]:
    """Texts as a model is given them: what stands before, the title where it is wanted and there is one, the text."""
    if not titled:
        return [before + text for text in texts]
    return [before + with_title(title, text) for title, text in zip(titles, texts, strict=True)]


def text_before(manifest: ArtifactManifest) -> str:
    """What a cross-encoder wants before every passage: the blanks before it in its pair's text (see `PairText`)."""
    return manifest.prompting.lead
