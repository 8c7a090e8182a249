"""Another reranker for a collection: `tandem retokenize`, as one call."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..collection import CollectionManifest, Progress
from ..collection.checking import check_files
from ..collection.passage_text import PassageText
from ..collection.report import silent
from ..collection.republish import is_tokenised, republish
from ..collection.token_files import TOKEN_FILES
from ..collection.versions import VERSIONS, current_pointer, read_current, writer_lock
from ..errors import CollectionError
from ..models.artifact import Artifact
from .indexing import model_record


@dataclass(frozen=True, slots=True)
class Retokenized:
    """What came of it: `passages` that were tokenised (0: their ids were there already), `bytes` of the token ids.

    unchanged: the collection had this reranker and its ids before; no new version was made
    """

    path: str
    version: str
    reranker: str
    passages: int
    bytes: int
    unchanged: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        if self.unchanged:
            return f"version {self.version} has the token ids of {self.reranker} already; nothing was done"
        if not self.passages:
            return f"version {self.version}: the reranker is {self.reranker}, which reads the token ids that were there"
        return (
            f"version {self.version}: {self.passages:,} passages tokenised for {self.reranker}, "
            f"{self.bytes / 1e6:,.1f} MB, {self.seconds:.1f} s; the vectors are those that were there"
        )


def retokenize(collection: str | Path, reranker: str | Path, *, progress: Progress = silent) -> Retokenized:
    """Make the artifact `reranker` the reranker of the folder `collection`, as if it had been indexed with it.

    Passages keep their cut and vectors; their token ids are made anew where the reranker's tokenizer is another than
    that of the stored ones. The result is a new version; whatever interrupts the call leaves the old one.

    Raises ArtifactError, CollectionError, InferenceError or StorageError.
    """
    root, started = Path(collection), time.perf_counter()
    artifact = Artifact.open(reranker, kind="cross-encoder")
    current_pointer(root)  # before a lock makes the folder
    with writer_lock(root):
        current = _sound(root)
        text = PassageText.of(artifact, current.settings)
        models = current.models.model_copy(update={"reranker": model_record(artifact, root)})
        tokenised = is_tokenised(current, models, text)
        unchanged = tokenised and models == current.models
        manifest = current if unchanged else republish(root, current, models, text, current.language, progress)
    return Retokenized(
        str(root),
        manifest.version,
        artifact.manifest.name,
        0 if tokenised else manifest.counts.passages,
        sum(segment.files[name].size for segment in manifest.segments for name in TOKEN_FILES),
        unchanged,
        round(time.perf_counter() - started, 3),
    )


def _sound(root: Path) -> CollectionManifest:
    """The current version's manifest, every file as it was written."""
    current = read_current(root)
    if current is None:
        raise CollectionError(f"{root} lost its collection while it was opened; try again")
    check_files(root / VERSIONS / current.version, current)
    return current
