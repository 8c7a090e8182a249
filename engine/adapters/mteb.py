"""MTEB: an exported bi-encoder or cross-encoder as a model that `mteb.evaluate` scores. Needs mteb.

Each takes the folder of an artifact, an open `Engine` or a server's URL: the model that is scored is the one that they
run, in their precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..errors import InputError
from ..models.artifact import Artifact, Kind
from ..models.runtime.select import PrecisionWish
from ..text.prompting import NO_WISH, PASSAGE, QUERY, PromptWish
from .artifact import ArtifactModels
from .backend import Models, Source, connect, is_url
from .missing import missing

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError as error:
    raise missing("the adapter for MTEB", "mteb", error) from error


class MtebEncoder(AbsEncoder):
    """A bi-encoder. Queries and documents have the prompts that the model has for them; other texts have none."""

    def __init__(
        self,
        model: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        device: str = "auto",
        precision: PrecisionWish = "auto",
        task_instructions: bool = False,
        similarity: Literal["cosine", "dot"] | None = None,
        name: str | None = None,
    ) -> None:
        """`device` and `precision` are of an artifact; `api_key` and `collection` of a server.

        task_instructions: whether queries, and texts that are neither query nor document, have MTEB's instruction of
            the task, for models that take one
        similarity: how vectors are compared; None: as the artifact says, and of a server by the cosine
        name: under which MTEB keeps the results; None: `tandem/` and the model's own

        Raises InputError, ArtifactError or DeviceError.
        """
        self.model, artifact = _models(model, "bi-encoder", device, precision, api_key, collection)
        self.task_instructions = task_instructions
        own = "cosine" if artifact is None else artifact.manifest.similarity
        self.mteb_model_meta = _meta(artifact, name, similarity or own, "dense")

    def encode(
        self, inputs: Any, *, task_metadata: Any, prompt_type: PromptType | None = None, **more: Any
    ) -> npt.NDArray[np.float32]:
        """float32 [n, d] of the batches in `inputs`. Raises InputError for what is no text."""
        texts = [text for batch in inputs for text in _texts(batch)]
        return self.model.embed(texts, self._wish(task_metadata, prompt_type))

    def _wish(self, task: Any, kind: PromptType | None) -> PromptWish:
        if kind == PromptType.document:
            return PromptWish(PASSAGE)
        if self.task_instructions and (instruction := self.get_instruction(task, kind)):
            return PromptWish(instruction=instruction)
        return NO_WISH if kind is None else PromptWish(QUERY)


class MtebCrossEncoder:
    """A cross-encoder, for tasks of reranking. Scores are its logits."""

    def __init__(
        self,
        model: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        device: str = "auto",
        precision: PrecisionWish = "auto",
        name: str | None = None,
    ) -> None:
        """See `MtebEncoder`. Raises InputError, ArtifactError or DeviceError."""
        self.model, artifact = _models(model, "cross-encoder", device, precision, api_key, collection)
        self.mteb_model_meta = _meta(artifact, name, None, "cross-encoder")

    def predict(self, inputs1: Any, inputs2: Any, **more: Any) -> npt.NDArray[np.float32]:
        """float32 [n]: the logit of each query in `inputs1` with the document in `inputs2` beside it."""
        batches = zip(inputs1, inputs2, strict=True)
        logits = [logit for batch in batches for logit in self._logits(_texts(batch[0]), _texts(batch[1]))]
        return np.array(logits, dtype=np.float32)

    def _logits(self, queries: list[str], documents: list[str]) -> Iterator[float]:
        pairs = zip(queries, documents, strict=True)
        for query, group in groupby(pairs, key=lambda pair: pair[0]):
            texts = [document for _, document in group]
            ranked = self.model.rerank(query, texts, NO_WISH)
            yield from (passage.score for passage in sorted(ranked, key=lambda passage: passage.index))


def _models(
    given: Source, kind: Kind, device: str, precision: PrecisionWish, api_key: str | None, collection: str | None
) -> tuple[Models, Artifact | None]:
    """What answers, and the artifact behind it as far as that is known here."""
    if isinstance(given, str | Path) and not is_url(given):
        artifact = Artifact.open(given, kind=kind)
        return ArtifactModels(artifact, device, precision), artifact
    if (device, precision) != ("auto", "auto"):
        raise InputError("device and precision are those of an artifact's folder; an engine and a server have theirs")
    backend = connect(given, api_key=api_key, collection=collection)
    if not isinstance(given, Engine):
        return backend, None
    model = given.encoder if kind == "bi-encoder" else given.reranker
    return backend, None if model is None else model.artifact


def _meta(artifact: Artifact | None, name: str | None, similarity: str | None, kind: str) -> ModelMeta:
    known: dict[str, Any] = {"name": name or "tandem/served"}
    if artifact is not None:
        manifest = artifact.manifest
        known = {
            "name": name or f"tandem/{manifest.name.rpartition('/')[2]}",
            "revision": artifact.fingerprint[:12],
            "max_tokens": manifest.max_length,
            "embed_dim": manifest.dimension,
            "use_instructions": manifest.prompting.takes_instruction,
        }
    compared = None if similarity is None else ScoringFunction(similarity)
    return ModelMeta.create_empty({**known, "similarity_fn_name": compared, "model_type": [kind]})


def _texts(batch: Any) -> list[str]:
    if "text" not in batch:
        raise InputError(f"this model reads text, and the task has {', '.join(batch)}")
    return list(batch["text"])
