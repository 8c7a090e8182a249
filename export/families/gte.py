"""GTE (Zhang et al. 2024): gte-multilingual, Arctic m v2, as transformers itself has it."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("GTE", ("gte",), problem=rotations)
