"""Nearest passages: planned by size, built once, measured against exact search."""

from .building import build
from .index import Index
from .lexical_index import LexicalIndex
from .planning import IndexPlan, Plan, plan
from .row_mask import RowMask
from .segments import Filtered, Part, SegmentedIndex

__all__ = [
    "Filtered",
    "Index",
    "IndexPlan",
    "LexicalIndex",
    "Part",
    "Plan",
    "RowMask",
    "SegmentedIndex",
    "build",
    "plan",
]
