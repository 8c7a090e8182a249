"""ModernBERT (Warner et al. 2024): Ettin, GTE and Granite ModernBERT. Two of three layers read within a window."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("ModernBERT", ("modernbert",), problem=rotations)
