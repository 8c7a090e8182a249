"""A collection's own fusion weights: `fusion.json` beside CURRENT, replaced atomically.

A file of its own and not part of a version, because they are fitted to a corpus and two models and outlive a new
version of the corpus; with other models they do not apply.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import CollectionError
from ..platform.durable_io import read_small, replace_durably, storage, sync_folder
from ..scoring.fusion import Fusion

FILE = "fusion.json"
MOST_BYTES = 10_000
"""The file has some 300 bytes."""


class FittedWeights(BaseModel):
    """Weights, and the fingerprints of the models they were fitted with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    reranker: str | None
    fusion: Fusion

    def fits(self, encoder: str, reranker: str | None) -> bool:
        """Whether they are for this pair of models, by their fingerprints."""
        return (self.encoder, self.reranker) == (encoder, reranker)


def read(root: Path) -> FittedWeights | None:
    """The weights kept with the collection `root`, None where there are none.

    Raises CollectionError when the file is damaged.
    """
    path = root / FILE
    if path.is_symlink():
        raise CollectionError(f"{path} is a link; a collection holds plain files only")
    try:
        return FittedWeights.model_validate_json(read_small(path, MOST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CollectionError(f"{path} is damaged; remove it, or run `tandem calibrate` again") from error


def write(root: Path, kept: FittedWeights) -> None:
    """Keep the weights with the collection `root`, in the place of those that it had."""
    replace_durably(root / FILE, (kept.model_dump_json(indent=2) + "\n").encode())


def forget(root: Path) -> None:
    """Remove the collection's own weight: the reranker's fitted one applies again."""
    with storage(root / FILE):
        (root / FILE).unlink(missing_ok=True)
    sync_folder(root)
