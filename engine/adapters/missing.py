"""Packages that a part of this folder needs, and that nothing else of Tandem does."""

from __future__ import annotations

from ..errors import MissingPackage


def missing(what: str, package: str, error: ModuleNotFoundError) -> MissingPackage:
    """The error to raise where `what` needs `package`, as pip calls it, and `error` says which module is not there."""
    found = MissingPackage(
        f"{what} needs {package}, and there is no module {error.name}: pip install {package}",
    )
    found.name = error.name
    return found
