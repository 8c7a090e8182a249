"""Where what any folder may use again is kept: exported models, the demo's collection."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for Tandem: `$XDG_CACHE_HOME/tandem`, and `~/.cache/tandem` where that variable is not
    set or, as the XDG Base Directory Specification has it, is no absolute path."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (told if told.is_absolute() else Path.home() / ".cache") / "tandem"
