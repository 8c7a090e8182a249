"""Nearest passages: planned by size, built once, measured against exact search."""

from .building import build
from .index import Index
from .planning import IndexPlan, Plan, plan

__all__ = ["Index", "IndexPlan", "Plan", "build", "plan"]
