"""Shards: the unit of indexing work. A finished shard survives any interruption and is never encoded again.

staging/<job>/00000.npz    arrays of some thousand passages
staging/<job>/00000.json   written last: the shard is finished; its sha256 and counts
staging/<job>/00001.part   of a shard that is not: the vectors of its first steps
"""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ..platform.durable_io import replace_durably, sha256, storage, sync_all
from ..platform.npy import Array
from .manifest import numbered


class Finished(BaseModel):
    """The marker of a finished shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    documents: int
    """Documents this shard took from the corpus."""
    passages: int


class BuildJob:
    """The shards of one indexing job: the same corpus, models and settings, whenever it runs."""

    def __init__(self, staging: Path, current: str | None, key: str) -> None:
        """`current`: the version that is to be followed; None: there is none. A job for another one is of no use."""
        self.folder = staging / f"{numbered(current)}-{key[:32]}"
        self._staging = staging

    def begin(self) -> list[Finished]:
        """Make the job's folder and return its finished shards in order, up to the first that is missing or damaged.

        Shards of other jobs stay until something is published: a person may be going back and forth.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        done: list[Finished] = []
        while (finished := self._finished(len(done))) is not None:
            done.append(finished)
        return done

    def write(self, number: int, documents: int, arrays: dict[str, Array]) -> Finished:
        """Keep shard `number` on the disk. `vectors` has a row a passage."""
        path = self._path(number)
        with storage(path):
            np.savez(path, allow_pickle=False, **arrays)
            finished = Finished(sha256=sha256(path), documents=documents, passages=len(arrays["vectors"]))
            marker = path.with_suffix(".json")
            marker.write_text(finished.model_dump_json())
        # In whatever order they get there: a marker that is torn, or of other arrays, is none.
        sync_all([path, marker, self.folder, self._staging])
        self._part(number).unlink(missing_ok=True)
        return finished

    def keep(self, number: int, contents: list[bytes], vectors: Array) -> None:
        """Keep the first `vectors` of shard `number`, whose documents have the hashes `contents`."""
        written = io.BytesIO()
        np.save(written, vectors, allow_pickle=False)
        data = _mark(contents) + written.getvalue()
        replace_durably(self._part(number), hashlib.sha256(data).digest() + data)

    def kept(self, number: int, contents: list[bytes]) -> npt.NDArray[np.float32] | None:
        """What `keep` kept of that shard; None where there is nothing, or it is damaged or of other documents."""
        try:
            written = self._part(number).read_bytes()
        except FileNotFoundError:
            return None
        checksum, data, mark = written[:32], written[32:], _mark(contents)
        if hashlib.sha256(data).digest() != checksum or not data.startswith(mark):
            return None
        vectors: npt.NDArray[np.float32] = np.load(io.BytesIO(data[len(mark) :]), allow_pickle=False)
        return vectors

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
            folder.mkdir(parents=True)
        return folder

    def discard(self) -> None:
        """Remove the job's folder: it made nothing that is published."""
        with storage(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            if self._staging.exists() and not any(self._staging.iterdir()):
                self._staging.rmdir()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:05d}.part"

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"

    def _finished(self, number: int) -> Finished | None:
        path = self._path(number)
        try:
            finished = Finished.model_validate_json(path.with_suffix(".json").read_bytes())
            return finished if sha256(path) == finished.sha256 else None
        except (FileNotFoundError, ValidationError):
            return None


def _mark(contents: list[bytes]) -> bytes:
    """What tells a shard's documents from others."""
    return hashlib.sha256(b"".join(contents)).digest()
