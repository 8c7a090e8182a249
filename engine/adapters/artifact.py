"""The models of an adapter that needs no collection: one exported artifact."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..config import EngineOptions
from ..models.artifact import Artifact
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..models.runtime.select import PrecisionWish
from ..platform.device import choose
from ..result import Reranked
from ..scheduling.batcher import Batcher
from ..scheduling.request_steps import drive
from ..search.model_api import ModelApi
from ..text.prompting import PromptWish
from .parts import joined, united
from .parts import parts as parts_of


class ArtifactModels:
    """One model on a device of its own, whose thread ends with this. It answers as an engine with that model would."""

    def __init__(self, artifact: Artifact, device: str = "auto", precision: PrecisionWish = "auto") -> None:
        """Loads the model. Raises ArtifactError, DeviceError or InputError."""
        self.artifact = artifact
        chosen = choose(device, None)
        batcher = Batcher(EngineOptions().queue_tokens)
        weakref.finalize(self, batcher.close)
        model: BiEncoder | CrossEncoder
        if artifact.manifest.kind == "bi-encoder":
            model = BiEncoder(artifact, chosen, precision, split="sequences")  # a corpus, not a query at a time
            self._models = ModelApi(None, model, None, None, batcher)
        else:
            model = CrossEncoder(artifact, chosen, precision)
            self._models = ModelApi(None, None, model, None, batcher)
        batcher.call(model.warm_up)

    def embed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `backend.Models`."""
        return joined([drive(self._models.embed(part, wish)).vectors for part in parts_of(texts)])

    def rerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `backend.Models`."""
        ranked = [drive(self._models.rerank(query, part, None, wish=wish)) for part in parts_of(texts)]
        return united(texts, [result.passages for result in ranked])
