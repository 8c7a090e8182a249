"""The families of models that are exported, one file each: what `config.json` calls them and what is special of them.

To add one: write its file, add it to the list below.
"""

from __future__ import annotations

from . import (
    albert,
    bert,
    deberta,
    distilbert,
    electra,
    eurobert,
    gemma3,
    gte,
    modernbert,
    mpnet,
    nomic_bert,
    qwen2,
    qwen3,
    roberta,
    t5,
)
from .family import Family

_FILES = (
    bert, roberta, mpnet, distilbert, electra, albert, deberta, modernbert, nomic_bert, gte, eurobert, t5, qwen2, qwen3,
    gemma3,
)  # fmt: skip
FAMILIES: dict[str, Family] = {name: file.FAMILY for file in _FILES for name in file.FAMILY.model_types}
"""By the `model_type` of a `config.json`."""

__all__ = ["FAMILIES", "Family"]
