"""The models of an adapter that needs no collection: one exported artifact."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..config import EngineSettings
from ..models.artifact import Artifact
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..models.runtime.select import PrecisionWish
from ..result import Reranked
from ..search.model_pool import ModelPool
from ..single_model import SingleModel
from ..text.prompting import PromptWish
from .parts import joined, united
from .parts import parts as parts_of


class ArtifactModels:
    """One model on a device of its own, whose thread ends with this. It answers as an engine with that model would."""

    def __init__(self, artifact: Artifact, device: str = "auto", precision: PrecisionWish = "auto") -> None:
        """Loads the model. Raises ArtifactError, DeviceError or InputError."""
        self.artifact = artifact
        pool = ModelPool(EngineSettings(device=device))
        model: BiEncoder | CrossEncoder
        if artifact.manifest.kind == "bi-encoder":
            model = BiEncoder(artifact, pool.device, precision, split="sequences")  # a corpus, not a query at a time
        else:
            model = CrossEncoder(artifact, pool.device, precision)
        self._single = SingleModel(model, pool)
        weakref.finalize(self, self._single.close)
        pool.batcher.call(model.warm_up)

    def embed(self, texts: Sequence[str], wish: PromptWish) -> npt.NDArray[np.float32]:
        """See `backend.Models`."""
        parts = parts_of(texts)
        told = {"prompt": wish.text, "instruction": wish.instruction}
        return joined([self._single.embed(part, wish.name, **told) for part in parts])

    def rerank(self, query: str, texts: Sequence[str], wish: PromptWish) -> list[Reranked]:
        """See `backend.Models`."""
        told = {"prompt_name": wish.name, "prompt": wish.text, "instruction": wish.instruction}
        return united(texts, [self._single.rerank(query, part, **told) for part in parts_of(texts)])
