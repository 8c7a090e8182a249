"""Questions that a machine already holds, as pairs of what is asked and what answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .dictionary import dictionary
from .manual import manual_pages
from .packages import package_descriptions
from .sections import info_files, restructured
from .triple import Triple


@dataclass(frozen=True, slots=True)
class Harvester:
    """How a kind of texts is read, and what its path is, in words."""

    read: Callable[[Path], Iterator[Triple]]
    what: str


SOURCES = {
    "man": Harvester(manual_pages, "a folder of manual pages, such as /usr/share/man/man1"),
    "packages": Harvester(package_descriptions, "a file that apt-cache dumpavail has written"),
    "dict": Harvester(dictionary, "the .index file of a dictionary of dictd, its text beside it"),
    "info": Harvester(info_files, "a folder of info files, such as /usr/share/info"),
    "rst": Harvester(restructured, "a folder of reStructuredText"),
}
"""By the word before the colon of `--data KIND:PATH`."""
