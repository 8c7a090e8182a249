"""One version of a collection, as an engine searches it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from ..collection import Collection
from ..collection.passage_text import PassageText
from ..config import EngineSettings, SearchSettings
from ..models.artifact import Artifact
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..recall import LexicalIndex
from ..scoring.fusion import Fusion
from .final_weights import fusion_of
from .model_api import ModelApi
from .model_pool import ModelPool
from .passage_ids import PassageIds, passage_ids, tell, unstored
from .placement import Placed, place, plan_memory
from .two_stage import TwoStage
from .union import words_of


@dataclass(frozen=True, slots=True)
class View:
    """What of an engine depends on the version: replaced as a whole when there is a newer one.

    fusion: the weights of the final order; placed: where recall and the pipeline are; passages: what the reranker
    reads, None without one; words, why_words: the index that recall looks words up in, None for recall by vectors
    alone, and why, in words; nbytes: of the device's memory, by the plan, without the models
    """

    collection: Collection
    encoder: BiEncoder
    reranker: CrossEncoder | None
    fusion: Fusion
    placed: Placed
    passages: PassageIds | None
    words: LexicalIndex | None
    why_words: str
    two_stage: TwoStage
    models: ModelApi
    nbytes: int

    @classmethod
    def open(
        cls,
        collection: Collection,
        encoder: Artifact,
        reranker: Artifact | None,
        pool: ModelPool,
        settings: EngineSettings,
        before: View | None = None,
    ) -> View:
        """A version with its models, which are loaded where `pool` has not got them.

        before: what this replaces: its memory is not planned for
        Raises ArtifactError, CollectionError, DeviceError, InputError or OutOfMemory.
        """
        text = None if reranker is None else PassageText.of(reranker, collection.manifest.settings)
        problem = None if reranker is None or text is None else unstored(collection, text, reranker)
        device, batcher = pool.device, pool.batcher
        memory = plan_memory(
            collection, encoder, reranker, device, settings, stored=problem is None, loaded=pool.loaded(),
            taken=pool.taken - (0 if before is None else before.nbytes),
        )  # fmt: skip
        if memory is not None:
            pool.planned(memory.shared)
        with nullcontext() if memory is None else memory.advising():
            first = pool.encoder(encoder, settings)
            second, passages = None, None
            if reranker is not None and text is not None:
                second = pool.reranker(reranker, settings)
                passages = passage_ids(collection, text, problem)
                tell(collection, passages, reranker)
            fusion = fusion_of(collection, first, second, settings)
            placed = place(collection, first, second, device, settings, memory, fusion, unstored=problem)
        words, why = words_of(collection, problem)
        two_stage = TwoStage(first, second, device.kind, fusion, placed, passages, batcher, words)
        models = ModelApi(collection, first, second, passages, batcher)
        nbytes = 0 if memory is None else memory.own
        return cls(collection, first, second, fusion, placed, passages, words, why, two_stage, models, nbytes)

    def warm_up(self, pool: ModelPool) -> None:
        """Run a resident pipeline once, on the thread that will run it; the models are warm since they were loaded."""
        pipeline = self.placed.pipeline
        if pipeline is not None:
            pool.batcher.call(lambda: pipeline.warm_up(SearchSettings().recalled))
