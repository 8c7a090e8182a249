"""Qwen3 (Yang et al. 2025): Qwen3-Embedding and Qwen3-Reranker."""

from __future__ import annotations

from .family import Family, rotations

FAMILY = Family("Qwen3", ("qwen3",), decoder=True, problem=rotations)
