"""Nearest passages: planned by size, built once, measured against exact search."""

from .build import build
from .index import Index
from .plan import IndexPlan, Plan, plan

__all__ = ["Index", "IndexPlan", "Plan", "build", "plan"]
