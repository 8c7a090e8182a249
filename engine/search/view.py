"""One version of a collection, as an engine searches it."""

from __future__ import annotations

from dataclasses import dataclass

from ..collection import Collection
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..recall import LexicalIndex
from ..scheduling.batcher import Batcher
from ..scoring.fusion import Fusion
from .model_api import ModelApi
from .passage_ids import PassageIds
from .placement import Placed
from .two_stage import TwoStage


@dataclass(frozen=True, slots=True)
class View:
    """What of an engine depends on the version: replaced as a whole when there is a newer one.

    words, why_words: the index of words that recall uses, and why, in words
    """

    collection: Collection
    fusion: Fusion
    placed: Placed
    passages: PassageIds | None
    words: LexicalIndex | None
    why_words: str
    two_stage: TwoStage
    models: ModelApi

    @classmethod
    def of(
        cls,
        collection: Collection,
        encoder: BiEncoder,
        reranker: CrossEncoder | None,
        device: str,
        fusion: Fusion,
        placed: Placed,
        passages: PassageIds | None,
        words: tuple[LexicalIndex | None, str],
        batcher: Batcher,
    ) -> View:
        """Of parts that fit together."""
        two_stage = TwoStage(encoder, reranker, device, fusion, placed, passages, batcher, words[0])
        models = ModelApi(collection, encoder, reranker, passages, batcher)
        return cls(collection, fusion, placed, passages, *words, two_stage, models)
