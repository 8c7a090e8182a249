"""`python -m tandem.engine.build.merging COLLECTION`: merge what is due, at the lowest priority."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..collection.merging import merge
from ..errors import TandemError

NICE = 19


def main() -> None:
    """Exit status 1, and a sentence on stderr, where it fails."""
    os.nice(NICE)
    try:
        merge(Path(sys.argv[1]), threads=1)
    except TandemError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
