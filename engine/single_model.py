"""One exported model by itself, without a collection: vectors of texts, or scores of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import EngineOptions
from .errors import EngineClosed
from .model_requests import ModelRequests
from .models.artifact import Artifact
from .models.cross_encoder import CrossEncoder
from .models.encoder import BiEncoder
from .models.memory import Chosen
from .models.runtime import choose
from .search.gpu_memory import MemoryPlan, available_memory, plan_model
from .search.model_api import ModelApi
from .search.model_pool import ModelPool


class SingleModel(ModelRequests):
    """A bi-encoder or a cross-encoder. Thread-safe; close it, or use it in a `with` block."""

    def __init__(self, model: BiEncoder | CrossEncoder, pool: ModelPool, nbytes: int = 0) -> None:
        """A `model` of `pool`, which this holds until it is closed; `nbytes` of the device's memory, by the
        plan, without the model."""
        super().__init__(pool)
        self._model = model
        self._nbytes = nbytes
        self._closed = False
        self._asked = ModelApi(None, self.encoder, self.reranker, None, pool.batcher)
        pool.hold(nbytes)

    @classmethod
    def open(cls, artifact: str | Path, *, pool: ModelPool | None = None, **settings: Any) -> SingleModel:
        """Open the artifact in a folder that `tandem export` wrote.

        `settings` and `pool` as `Engine.open` has them: with an engine's pool it shares the device and its thread, and
        the model where that engine has it too. Raises ArtifactError, DeviceError or InputError.
        """
        pool, chosen = ModelPool.of(pool, settings)
        pool.hold()
        try:
            opened = Artifact.open(artifact)
            planned = _planned(opened, pool, chosen)
            load = pool.encoder if opened.manifest.kind == "bi-encoder" else pool.reranker
            if planned is not None:
                pool.planned(planned.shared)
            return cls(load(opened, chosen), pool, 0 if planned is None else planned.own)
        finally:
            pool.release()

    @property
    def model(self) -> BiEncoder | CrossEncoder:
        """The model."""
        return self._model

    @property
    def encoder(self) -> BiEncoder | None:
        """The model, where it is a bi-encoder."""
        return self._model if isinstance(self._model, BiEncoder) else None

    @property
    def reranker(self) -> CrossEncoder | None:
        """The model, where it is a cross-encoder."""
        return self._model if isinstance(self._model, CrossEncoder) else None

    @property
    def _requests(self) -> ModelApi:
        if self._closed:
            raise EngineClosed("the model is closed; open it again")
        return self._asked

    def close(self) -> None:
        """Take no more requests. The last user of a pool stops the device thread; what waits gets EngineClosed."""
        closed, self._closed = self._closed, True
        if not closed:
            self.pool.release(self._nbytes)


def _planned(artifact: Artifact, pool: ModelPool, settings: EngineOptions) -> MemoryPlan | None:
    """What it takes of a GPU, checked; None on a CPU. Raises DeviceError where it does not fit."""
    if pool.device.kind == "cpu":
        return None
    available, _ = available_memory(pool.device, settings.gpu_memory_gib)
    if settings.gpu_memory_gib is not None and available is not None:
        available = max(0, available - pool.taken)
    encodes = artifact.manifest.kind == "bi-encoder"
    precision = settings.encoder_precision if encodes else settings.reranker_precision
    model = Chosen(artifact, choose(settings.runtime, artifact, pool.device, precision, ()))
    planned = plan_model(model, available=available, loaded=pool.loaded())
    planned.check()
    return planned
