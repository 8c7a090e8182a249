"""EuroBERT (Boizard et al. 2025): a bidirectional Llama."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("EuroBERT", ("eurobert",), problem=rotations)
