"""Gemma 3's text model (Kamath et al. 2025): EmbeddingGemma, which reads in both directions."""

from __future__ import annotations

from typing import Any

from .family import Family, one_of, rotations


def _capped(config: Any) -> str | None:
    capped = getattr(config, "attn_logit_softcapping", None) or getattr(config, "final_logit_softcapping", None)
    return "its scores are capped (softcapping)" if capped else None


FAMILY = Family("Gemma 3", ("gemma3_text",), decoder=True, problem=one_of(rotations, _capped))
