"""What is to be served: collections by name, the version of each that requests see, and models by themselves."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from ..collection import Pointer
from .engines import Wanted


class Catalogue:
    """`paths`: where each collection is, the first one first; `pointers`: the version that is served of each.

    `needed`: names without which a server does not start; others are left out then, and the log says why; `models`:
    where each model by itself is, by its name for clients. A worker has it open as `key_of` says.
    """

    def __init__(
        self, paths: Mapping[str, Path], needed: Container[str] = (), models: Mapping[str, Path] | None = None
    ) -> None:
        self.paths = dict(paths)
        self.pointers: dict[str, Pointer | None] = {}
        self.needed = needed
        self.models = dict(models or {})

    @property
    def names(self) -> list[str]:
        """The collections that are served, the first one first."""
        return list(self.paths)

    @property
    def keys(self) -> list[str]:
        """Under what workers have all of it open: the collections, and then the models."""
        return [*self.paths, *map(key_of, self.models)]

    def wanted(self, pointers: Mapping[str, Pointer | None], needed: Container[str] = ()) -> list[Wanted]:
        """What a worker is to open: all, in the versions `pointers` (None, or not named: the current one).

        Where there is only one thing, it is needed.
        """
        only = len(self.paths) + len(self.models) == 1
        collections = [
            Wanted(name, path, pointers.get(name), needed=only or name in needed) for name, path in self.paths.items()
        ]
        models = {key_of(name): path for name, path in self.models.items()}
        return collections + [
            Wanted(key, path, needed=only or key in needed, model=True) for key, path in models.items()
        ]

    def add(self, name: str, path: Path, pointer: Pointer) -> None:
        """Serve one more."""
        self.paths[name], self.pointers[name] = path, pointer

    def remove(self, name: str) -> Path:
        """Serve one no more; where it is."""
        self.pointers.pop(name, None)
        return self.paths.pop(name)

    def gone(self, names: Iterable[str]) -> list[str]:
        """Those of `names`, as a worker has them, that are served no more."""
        known = self.keys
        return [name for name in names if name not in known]


def key_of(model: str) -> str:
    """Under what a worker has a model by itself open: no collection's name has a slash."""
    return f"model/{model}"
