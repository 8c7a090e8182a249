"""Write a folder beside its place and move it there whole: OUT is the old folder, or the new one, or absent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.errors import ExportError
from ..engine.models.artifact import MANIFEST
from ..engine.platform.durable_io import rename, storage, sync_tree


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A fresh folder that becomes `out` when the block ends well and disappears when it does not.

    Raises ExportError when `out` is something else than a former artifact or an empty folder, StorageError when the
    file system refuses.
    """
    _refuse_occupied(out)
    with storage(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp keeps others out (0700); the artifact itself is for whoever may read its place.
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        staging.chmod(0o755)
    try:
        with storage(out):
            yield staging
            _open_to_all(staging)
        sync_tree(staging)
        _publish(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open_to_all(staging: Path) -> None:
    """safetensors writes weights for their owner alone, and a server runs as another user."""
    for path in staging.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _refuse_occupied(out: Path) -> None:
    if out.is_symlink():
        raise ExportError(f"{out} is a link; name the folder itself")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ExportError(f"{out} holds files that are no artifact; name an empty or new folder")


def _publish(staging: Path, out: Path) -> None:
    if not out.exists():
        rename(staging, out)
        return
    former = staging.with_suffix(".former")
    rename(out, former)
    try:
        rename(staging, out)
    except BaseException:
        rename(former, out)
        raise
    shutil.rmtree(former, ignore_errors=True)
