"""Nearest passages: planned by size, built once, measured against exact search."""

from .allowed import Allowed
from .building import build
from .index import Index
from .planning import IndexPlan, Plan, plan

__all__ = ["Allowed", "Index", "IndexPlan", "Plan", "build", "plan"]
