"""Files as people have them, read as documents: one reader a kind, and a table of which ending is which kind."""

from .files import Files, open_files

__all__ = ["Files", "open_files"]
