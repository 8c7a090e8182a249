"""The engines of one process, a collection each or a model by itself, by the names they are served under. They share
models and device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..collection import Pointer
from ..config import EngineOptions, EngineSettings
from ..engine import Engine
from ..errors import CollectionError, TandemError
from ..search.model_pool import ModelPool
from ..single_model import SingleModel
from .model_info import Facts, facts_of, facts_of_model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A collection that is to be served: its name, its folder, and its version (None: the current one).

    needed: without it nothing is served; model: the folder is that of a model by itself
    """

    name: str
    path: Path
    version: Pointer | None = None
    needed: bool = True
    model: bool = False


class Engines:
    """Engines by name. `open` and `close` are slow, and for threads."""

    def __init__(self, settings: dict[str, Any], pool: ModelPool | None = None) -> None:
        """`settings` are those of `Engine.open`; `pool`: where models are loaded, None: a new one.

        Raises DeviceError or InputError.
        """
        self._settings = settings
        self._own = {name: settings[name] for name in EngineOptions.model_fields if name in settings}
        self.pool = pool or ModelPool(EngineSettings(**self._own))
        self._open: dict[str, Engine | SingleModel] = {}
        self.pool.hold()

    def adopt(self, name: str, engine: Engine) -> None:
        """Take an engine of the same pool that is open already."""
        self._open[name] = engine

    def __getitem__(self, name: str) -> Engine | SingleModel:
        """Raises CollectionError when nothing is open under that name."""
        engine = self._open.get(name)
        if engine is None:
            raise CollectionError(f"the collection {name} is not open")
        return engine

    def engine(self, name: str) -> Engine:
        """Raises CollectionError when no collection is open under that name."""
        engine = self[name]
        if isinstance(engine, SingleModel):
            raise CollectionError(f"{name} is a model by itself, without a collection")
        return engine

    def open(self, wanted: Wanted) -> Facts:
        """Open a collection or a model beside the others; raises what `Engine.open` raises."""
        engine: Engine | SingleModel
        if wanted.model:
            engine = SingleModel.open(wanted.path, pool=self.pool, **self._own)
        else:
            engine = Engine.open(wanted.path, version=wanted.version, pool=self.pool, **self._settings)
        before, self._open[wanted.name] = self._open.get(wanted.name), engine
        if before is not None:
            before.close()
        return self.facts(wanted.name)

    def open_all(self, collections: Sequence[Wanted]) -> dict[str, Facts]:
        """Open several; one that is not needed is left out where it cannot be opened, and the log says why."""
        found: dict[str, Facts] = {}
        for wanted in collections:
            try:
                found[wanted.name] = self.open(wanted)
            except TandemError as error:
                if wanted.needed:
                    raise
                log.error("a collection cannot be opened", extra={"collection": wanted.name, "error": str(error)})
        if collections and not found:
            raise CollectionError("no collection can be opened; the log says why of each")
        return found

    def facts(self, name: str) -> Facts:
        """What an engine serves."""
        engine = self[name]
        return facts_of_model(name, engine) if isinstance(engine, SingleModel) else facts_of(name, engine)

    def drift(self) -> dict[str, list[float]]:
        """What was learnt of the costs of each engine's models, in the order of `Engine.models`."""
        return {name: [model.cost.drift for model in engine.models] for name, engine in list(self._open.items())}

    def close(self, name: str) -> None:
        """Close one; requests under way are answered."""
        if (engine := self._open.pop(name, None)) is not None:
            engine.close()

    def close_all(self) -> None:
        """Close all, and end the device's thread."""
        for name in list(self._open):
            self.close(name)
        self.pool.release()
