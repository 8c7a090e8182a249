"""A collection's own fusion weights: `fusion.json` beside CURRENT, replaced atomically.

A file of its own and not part of a version, because they are fitted to a corpus and two models and outlive a new
version of the corpus; with other models they no longer apply.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import CollectionError
from ..platform.durable_io import read_small, replace_durably, storage, sync_folder
from ..scoring.fusion import Fusion
from .manifest import CollectionManifest

FILE = "fusion.json"
MOST_BYTES = 10_000
"""The file has some 300 bytes."""


class FittedWeights(BaseModel):
    """A weight, and the fingerprints of the models it was fitted with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    reranker: str | None
    fusion: Fusion


def read(root: Path, manifest: CollectionManifest) -> Fusion | None:
    """The weight kept with the collection `root`, None where there is none for the models of `manifest`.

    Raises CollectionError when the file is damaged.
    """
    path = root / FILE
    if path.is_symlink():
        raise CollectionError(f"{path} is a link; a collection holds plain files only")
    try:
        kept = FittedWeights.model_validate_json(read_small(path, MOST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CollectionError(f"{path} is damaged; remove it, or run `tandem calibrate` again") from error
    return kept.fusion if (kept.encoder, kept.reranker) == _models(manifest) else None


def write(root: Path, manifest: CollectionManifest, fusion: Fusion) -> None:
    """Keep `fusion` with the collection `root`, for the models of `manifest`."""
    encoder, reranker = _models(manifest)
    kept = FittedWeights(encoder=encoder, reranker=reranker, fusion=fusion)
    replace_durably(root / FILE, (kept.model_dump_json(indent=2) + "\n").encode())


def forget(root: Path) -> None:
    """Remove the collection's own weight: the reranker's fitted one applies again."""
    with storage(root / FILE):
        (root / FILE).unlink(missing_ok=True)
    sync_folder(root)


def _models(manifest: CollectionManifest) -> tuple[str, str | None]:
    models = manifest.models
    return models.encoder.fingerprint, None if models.reranker is None else models.reranker.fingerprint
