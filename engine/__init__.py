"""Tandem's engine: two-stage search over an indexed collection."""
