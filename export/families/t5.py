"""T5's encoder (Raffel et al. 2020): sentence-t5, gtr-t5. A table of relative positions is added to the scores."""

from __future__ import annotations

from typing import Any

from .family import Family


def _any(config: Any) -> int | None:
    return None


FAMILY = Family("T5", ("t5",), _any)
