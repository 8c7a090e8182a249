"""Descriptions of Debian packages: the summary asks for the long description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .triple import Triple, fit

FIELD = re.compile(r"^Description(?:-en)?: (.*)\n((?: .*\n?)+)", re.MULTILINE)


def package_descriptions(path: Path) -> Iterator[Triple]:
    """Triples of a file of Debian's package stanzas (what `apt-cache dumpavail` prints, or a Translation-en list).

    A summary or a long description that another package has already had is passed over.
    """
    seen: set[str] = set()
    for stanza in Path(path).read_text(encoding="utf-8", errors="replace").split("\n\n"):
        name = re.search(r"^Package: (\S+)", stanza, re.MULTILINE)
        found = FIELD.search(stanza + "\n")
        if name is None or found is None or not seen.isdisjoint(found.groups()):
            continue
        seen.update(found.groups())
        yield from fit(found[1], re.sub(r"^ \.?", "", found[2], flags=re.MULTILINE), name[1])
