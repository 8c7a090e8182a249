"""Scores of candidates: lexical, fused, the final order."""
