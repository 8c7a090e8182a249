"""Qwen2 (Yang et al. 2024): gte-Qwen2, mxbai-rerank v2."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("Qwen2", ("qwen2",), decoder=True, problem=rotations)
