"""Nearest passages: planned by size, built once, measured against exact search."""

from .building import build
from .index import Filtered, Index
from .lexical_index import LexicalIndex
from .planning import IndexPlan, Plan, plan
from .row_mask import RowMask

__all__ = ["Filtered", "Index", "IndexPlan", "LexicalIndex", "Plan", "RowMask", "build", "plan"]
