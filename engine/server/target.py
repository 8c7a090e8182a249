"""Which collection, or which model by itself, a request is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .catalogue import Catalogue, key_of
from .errors import Failure
from .model_info import Facts, ModelFacts

ModelKind = Literal["encoder", "reranker"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request names: a `collection`, or a `model`, as its body or path says. Names that are not served as models
    are passed over: every client sends one, and most mean the only model that there is."""

    collection: str | None = None
    model: str | None = None

    def place(self, kind: ModelKind, catalogue: Catalogue, opened: Mapping[str, Facts]) -> str | None:
        """Under what name the workers have what answers: the model that was named, the collection that was named, or
        the first of all that has a model of that `kind`; None where there is none.
        """
        if self.model in catalogue.models:
            return key_of(self.model)
        if self.collection is not None:
            return self.collection
        names = [*catalogue.names[:1], *map(key_of, catalogue.models)]
        return next((name for name in names if name in opened and getattr(opened[name], kind) is not None), None)


ANY = Target()


def needed_encoder(facts: Facts) -> ModelFacts:
    """The bi-encoder; raises Failure where there is none."""
    if facts.encoder is None:
        raise Failure("validation", "this model is a cross-encoder and gives no vectors; name another model",
                      status_override=422)  # fmt: skip
    return facts.encoder


def needed_reranker(facts: Facts) -> ModelFacts:
    """The cross-encoder; raises Failure where there is none."""
    if facts.reranker is None:
        why = (
            "this server's collection has no reranker; start it with --reranker FOLDER"
            if facts.searched
            else "this model is a bi-encoder and gives no scores of pairs; name another model"
        )
        raise Failure("validation", why, status_override=422)
    return facts.reranker


def needed_collection(facts: Facts) -> Facts:
    """Raises Failure for a model by itself."""
    if not facts.searched:
        raise Failure("not_found", "no collection is served here, only models")
    return facts


def name_of(facts: Facts, model: ModelFacts) -> str:
    """What clients are told that the model is called."""
    return model.name if facts.searched else facts.name.removeprefix(key_of(""))
