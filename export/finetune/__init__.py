"""Training a reranker adapter: data, hard negatives, the loop, validation and what is written."""

from __future__ import annotations

from .train import finetune, refit

__all__ = ["finetune", "refit"]
