"""Model pool: the models that are loaded on one device, each once, and the threads that run them.

Engines of several collections share one: a model that two of them need is loaded once, and one thread owns the device
and serves all of them in their clients' turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from ..config import EngineSettings
from ..errors import InputError
from ..models.artifact import Artifact
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..models.model import LoadedModel
from ..platform.device import Device, choose
from ..scheduling.batcher import Batcher

OF_A_POOL = ("device", "threads", "queue_tokens")
"""Settings that all engines of a pool share."""
ANY_MODEL = "any model"
"""Where sizes are by models' fingerprints: what is there as long as one of them is."""
Key = tuple[object, ...]
Loaded = TypeVar("Loaded", bound=LoadedModel)


class ModelPool:
    """Models on one device, and its thread. Thread-safe. Whoever uses it says so by `hold`, and `release`s it; with the
    last release the device thread ends."""

    def __init__(self, settings: EngineSettings) -> None:
        """Of `settings` those in `OF_A_POOL` hold for every engine. Raises DeviceError or InputError."""
        self.settings = settings
        self.device: Device = choose(settings.device, settings.threads)
        self.batcher = Batcher(settings.queue_tokens)
        # Where awaited requests tokenise, join pairs and fetch: not on the event loop, and no more at once than cores.
        self.steps = ThreadPoolExecutor(max(2, self.device.threads), thread_name_prefix="tandem-step")
        self._loading = Lock()
        self._counting = Lock()
        self._users = 0
        self._own = 0
        self._sizes: dict[str, int] = {}
        # A model goes with the last engine that has it.
        self._encoders: WeakValueDictionary[Key, BiEncoder] = WeakValueDictionary()
        self._rerankers: WeakValueDictionary[Key, CrossEncoder] = WeakValueDictionary()
        self._warm: WeakSet[LoadedModel] = WeakSet()

    @classmethod
    def of(cls, pool: ModelPool | None, settings: Mapping[str, Any]) -> tuple[ModelPool, EngineSettings]:
        """`pool` with its own settings, but for those that are given; None: a new pool. Raises DeviceError or
        InputError."""
        if pool is None:
            chosen = EngineSettings(**settings)
            return cls(chosen), chosen
        chosen = EngineSettings(**{**pool.settings.model_dump(), **settings})
        pool.check(chosen)
        return pool, chosen

    def hold(self, nbytes: int = 0) -> None:
        """Count a user, with so many bytes of the device's memory for itself alone."""
        with self._counting:
            self._users += 1
            self._own += nbytes

    def release(self, nbytes: int = 0) -> None:
        """Count one less; after the last one the device thread ends, and requests that wait get EngineClosed."""
        with self._counting:
            self._users -= 1
            self._own -= nbytes
            last = not self._users
        if last:
            self.batcher.close()
            self.steps.shutdown(cancel_futures=True)

    @property
    def taken(self) -> int:
        """Bytes of the device's memory, by the plans: its users' own, and those of the models that are loaded."""
        loaded = self.loaded()
        with self._counting:
            there = {*loaded, ANY_MODEL} if loaded else set()
            return self._own + sum(nbytes for name, nbytes in self._sizes.items() if name in there)

    def planned(self, sizes: Mapping[str, int]) -> None:
        """Bytes that models take, by fingerprint, and under ANY_MODEL what the first one of all takes besides."""
        with self._counting:
            self._sizes.update(sizes)

    def check(self, settings: EngineSettings) -> None:
        """Raise InputError where `settings` want of the pool what it has otherwise."""
        for name in OF_A_POOL:
            if (wanted := getattr(settings, name)) != (has := getattr(self.settings, name)):
                raise InputError(f"engines that share their models share {name} too: it is {has!r}, not {wanted!r}")

    def loaded(self) -> frozenset[str]:
        """Fingerprints of the models that are loaded."""
        # Lists of references: another thread may be loading one more.
        models: list[LoadedModel | None] = [reference() for reference in self._encoders.valuerefs()]
        models += [reference() for reference in self._rerankers.valuerefs()]
        return frozenset(model.artifact.fingerprint for model in models if model is not None)

    def encoder(self, artifact: Artifact, settings: EngineSettings) -> BiEncoder:
        """The bi-encoder of an artifact as `settings` want it; raises what loading it raises."""
        key = (artifact.fingerprint, settings.encoder_precision, settings.runtime)

        def load() -> BiEncoder:
            return BiEncoder(artifact, self.device, settings.encoder_precision, runtime=settings.runtime)

        return self._once(self._encoders, key, load, settings)

    def reranker(self, artifact: Artifact, settings: EngineSettings) -> CrossEncoder:
        """The cross-encoder of an artifact as `settings` want it; raises what loading it raises."""
        key = (artifact.fingerprint, settings.reranker_precision, settings.runtime, settings.early_exit)

        def load() -> CrossEncoder:
            return CrossEncoder(
                artifact, self.device, settings.reranker_precision, runtime=settings.runtime,
                early_exit=settings.early_exit,
            )  # fmt: skip

        return self._once(self._rerankers, key, load, settings)

    def _once(
        self, models: WeakValueDictionary[Key, Loaded], key: Key, load: Callable[[], Loaded], settings: EngineSettings
    ) -> Loaded:
        """The model of this key, loaded and with `settings.warm_up` warm.

        It is warmed up on the device thread: ONNX Runtime keeps captured graphs for the thread that captured them.
        """
        model = models.get(key)
        if model is not None and (not settings.warm_up or model in self._warm):
            return model  # a new version of a collection does not wait for another one's models
        with self._loading:
            model = models.get(key)
            if model is None:
                model = models[key] = load()
            if settings.warm_up and model not in self._warm:
                self.batcher.call(model.warm_up)
                self._warm.add(model)
            return model
