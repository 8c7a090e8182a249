"""Floors: the arithmetic that is counted, and rates that are what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.bench import floors
from tandem.engine.models.artifact import Artifact


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of one matrix product, counted the slow way: a multiplication and an addition each."""
    return sum(2 for _ in range(rows) for _ in range(inner) for _ in range(columns))


def counted(shape: dict[str, int], n: int, *, first_token: bool) -> int:
    """Every product of a BERT-like encoder over n tokens, one by one."""
    d, f, heads = shape["hidden_size"], shape["intermediate_size"], shape["num_attention_heads"]
    total = 0
    for layer in range(shape["num_hidden_layers"]):
        rows = 1 if first_token and layer == shape["num_hidden_layers"] - 1 else n
        total += product(n, d, d) * 2  # keys and values, of every token
        total += product(rows, d, d) * 2  # queries and the output projection
        total += heads * (product(rows, d // heads, n) + product(rows, n, d // heads))
        total += product(rows, d, f) + product(rows, f, d)
    return total


@pytest.mark.parametrize("first_token", [False, True])
def test_operations_are_those_of_the_products(tiny_cross_encoder: Path, first_token: bool):
    artifact = Artifact.open(tiny_cross_encoder)
    exact = counted(artifact.architecture(), 12, first_token=first_token)
    found = float(floors.model_flops(artifact, np.array([12]), first_token=first_token)[0])
    # Of the last layer the floor leaves out what only [CLS] needs: it may be below, by no more than that.
    assert exact * 0.9 <= found <= exact


def test_longer_sequences_cost_more_than_in_proportion(tiny_cross_encoder: Path):
    short, long = floors.model_flops(Artifact.open(tiny_cross_encoder), np.array([20, 40]), first_token=False)
    assert long > 2 * short


def test_a_floor_is_operations_over_the_rate():
    rates = floors.Rates({"fp32": 2e9}, 1e9, {"fp32": "numpy"})
    assert floors.floor_ms(1e9, rates, "fp32") == 500.0
    assert floors.floor_ms(1e9, rates, "fp16") == 500.0
    assert floors.floor_ms(1e9, rates, "int8") is None


def test_rates_are_measured_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(floors, "SIZE", 64)
    monkeypatch.setattr(floors, "COPIED", 1_000_000)
    rates = floors.measure(threads=1)
    assert set(rates.gemm) == set(rates.by) >= {"fp32"}
    assert all(rate > 0 for rate in (*rates.gemm.values(), rates.copy))
    assert rates.by["fp32"] in rates.note()
