"""Shards: the unit of indexing work. A finished shard survives any interruption and is never encoded again.

staging/<job>/00000.npz    arrays of some thousand passages
staging/<job>/00000.json   written last: the shard is finished; its sha256 and counts
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ..platform.durable_io import replace_durably, sha256, storage, sync_file, sync_folder
from ..platform.npy import Array


class Finished(BaseModel):
    """The marker of a finished shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    documents: int
    """Documents this shard took from the corpus."""
    passages: int


class BuildJob:
    """The shards of one indexing job: the same corpus, models and settings, whenever it runs."""

    def __init__(self, staging: Path, key: str) -> None:
        self.folder = staging / key[:32]
        self._staging = staging

    def begin(self) -> list[Finished]:
        """Make the job's folder and return its finished shards in order, up to the first that is missing or damaged.

        Shards of other jobs stay until something is published: a person may be going back and forth.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self._staging)
        done: list[Finished] = []
        while (finished := self._finished(len(done))) is not None:
            done.append(finished)
        return done

    def write(self, number: int, documents: int, arrays: dict[str, Array]) -> Finished:
        """Keep shard `number`: its arrays forced to the disk, then its marker. `vectors` has a row a passage."""
        path = self._path(number)
        with storage(path):
            np.savez(path, allow_pickle=False, **arrays)
        sync_file(path)
        finished = Finished(sha256=sha256(path), documents=documents, passages=len(arrays["vectors"]))
        replace_durably(path.with_suffix(".json"), finished.model_dump_json().encode())
        return finished

    def read(self, number: int) -> dict[str, Array]:
        """The arrays of finished shard `number`."""
        with np.load(self._path(number), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def assembly(self) -> Path:
        """An empty folder, beside the shards, in which a version is put together."""
        folder = self.folder / "version"
        with storage(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        return folder

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"

    def _finished(self, number: int) -> Finished | None:
        path = self._path(number)
        try:
            finished = Finished.model_validate_json(path.with_suffix(".json").read_bytes())
            return finished if sha256(path) == finished.sha256 else None
        except (FileNotFoundError, ValidationError):
            return None
