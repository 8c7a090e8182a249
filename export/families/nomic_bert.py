"""NomicBERT (Nussbaum et al. 2024): nomic-embed-text v1 and v1.5, as transformers itself has it."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("NomicBERT", ("nomic_bert",), problem=rotations)
