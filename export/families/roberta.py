"""RoBERTa (Liu et al. 2019), CamemBERT, XLM-RoBERTa: multilingual E5, BGE-M3, BGE rerankers, mMARCO rerankers."""

from __future__ import annotations

from .family import Family, after_padding, no_decoder

FAMILY = Family("RoBERTa", ("roberta", "camembert", "xlm-roberta"), after_padding, problem=no_decoder)
