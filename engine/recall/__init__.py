"""Nearest passages: planned by size, built once, measured against exact search."""

from .allowed import Allowed
from .building import build
from .index import Filtered, Index
from .planning import IndexPlan, Plan, plan

__all__ = ["Allowed", "Filtered", "Index", "IndexPlan", "Plan", "build", "plan"]
