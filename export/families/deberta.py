"""DeBERTa v2 and v3 (He et al. 2021): mxbai-rerank v1, NLI rerankers. Positions are in the attention's products."""

from __future__ import annotations

from .family import Family

FAMILY = Family("DeBERTa", ("deberta-v2",), own_attention=True)
