"""DistilBERT (Sanh et al. 2019): multi-qa-distilbert, msmarco-distilbert, distiluse."""

from __future__ import annotations

from .family import Family

FAMILY = Family("DistilBERT", ("distilbert",))
