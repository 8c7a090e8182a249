"""The two models of `tandem demo`: the bundled ones, or another cross-encoder, as artifacts that are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..engine.errors import ArtifactError, ExportError
from ..engine.models.artifact import MANIFEST, Artifact
from .console import note, waiting

ENCODER, RERANKER = "minilm-l6", "minilm-l6-reranker"
SUGGESTED = "cross-encoder/ms-marco-MiniLM-L6-v2"
"""A known cross-encoder of the Hub that is as fast as the bundled one."""


def demo_models(folder: Path, reranker: str = RERANKER) -> tuple[Path, Path]:
    """The bundled bi-encoder and a cross-encoder in `folder`, exported unless they are there.

    reranker: the bundled one's name, a name of the Hub, the folder of a model, or that of an artifact, which is used
        where it is

    An export that was killed leaves a folder that nothing takes for a model, and that goes with the next one. Raises
    StorageError while another process exports into the same folder, ExportError and ArtifactError for a reranker that
    cannot be had.
    """
    from ..engine.collection.versions import writer_lock

    models = folder / "models"
    with writer_lock(models):
        for left in [*models.glob(".*.partial"), *models.glob(".*.former")]:
            shutil.rmtree(left)
        other = None if reranker == RERANKER else _other(reranker, models)
        encoder = _bundled(ENCODER, models, "half a minute")
        return encoder, other or _bundled(RERANKER, models, "two minutes")


def as_folder(name: str) -> str:
    """A folder's name for a model or a corpus; two folders of one name, `notes` here and there, have two."""
    path = Path(name).expanduser()
    named = str(path.resolve()) if path.exists() else name
    return "".join(letter if letter.isalnum() else "-" for letter in named).strip("-")


def _bundled(name: str, models: Path, takes: str) -> Path:
    """A bundled model in `models`, made anew where what lies there is damaged or of another version of Tandem."""
    path = models / name
    with waiting(f"{name}: an export takes {takes} on two cores"):  # PyTorch's import alone takes seconds
        from ..export import export_model
        from ..export.bundled import BUNDLED
        from ..export.bundled_artifacts import exported

        try:
            return exported(name, path, note)
        except ArtifactError as error:
            note(f"{error}; exporting it again")
            return export_model(name, BUNDLED[name].kind, path, progress=note).path


def _other(name: str, models: Path) -> Path:
    """A cross-encoder that is not the bundled one: where it is if it is an artifact, else exported into `models`."""
    local = Path(name).expanduser()
    if (local / MANIFEST).is_file():
        return Artifact.open(local, kind="cross-encoder").path
    path = models / as_folder(name)
    if (path / MANIFEST).is_file():
        try:
            found = Artifact.open(path, kind="cross-encoder")
            note(f"{name}: already exported to {path}")
            return found.path
        except ArtifactError as error:
            note(f"{error}; exporting it again")
    with waiting(f"{name}: an export takes some minutes on two cores"):
        from ..export import export_model

        try:
            artifact = export_model(str(local) if local.exists() else name, "cross-encoder", path, progress=note)
        except ExportError as error:
            raise ExportError(f"{error}; or leave --reranker out: the bundled one needs no network") from error
    if not artifact.manifest.fusion.recall_weight:
        note(f"{name} comes without weights for the final order, so it decides alone; `tandem calibrate` fits them")
    return artifact.path
