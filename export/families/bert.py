"""BERT (Devlin et al. 2019): MiniLM, BGE, E5, GTE v1.5, Snowflake Arctic, ms-marco rerankers."""

from __future__ import annotations

from .family import Family, no_decoder

FAMILY = Family("BERT", ("bert",), problem=no_decoder)
