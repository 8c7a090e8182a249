"""ELECTRA (Clark et al. 2020): ms-marco and NLI cross-encoders."""

from __future__ import annotations

from .family import Family, no_decoder

FAMILY = Family("ELECTRA", ("electra",), problem=no_decoder)
