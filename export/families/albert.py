"""ALBERT (Lan et al. 2020): paraphrase-albert. One layer's weights serve all layers."""

from __future__ import annotations

from .family import Family

FAMILY = Family("ALBERT", ("albert",))
