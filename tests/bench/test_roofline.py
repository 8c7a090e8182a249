"""Floors: the arithmetic that is counted, and rates that are what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.bench import roofline
from tandem.bench.random_models.shapes import TINY, TINY_MODERNBERT, TINY_QWEN3, TINY_ROBERTA, ModelShape
from tandem.engine.models.artifact import Artifact, ModelSize
from tandem.export.quiet import quiet


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of one matrix product, counted the slow way: a multiplication and an addition each."""
    return sum(2 for _ in range(rows) for _ in range(inner) for _ in range(columns))


def counted(size: ModelSize, n: int, *, first_token: bool) -> int:
    """Every product of a BERT-like encoder over n tokens, one by one."""
    d, f, heads = size.width, size.wide, size.heads
    total = 0
    for layer in range(size.layers):
        rows = 1 if first_token and layer == size.layers - 1 else n
        total += product(n, d, d) * 2  # keys and values, of every token
        total += product(rows, d, d) * 2  # queries and the output projection
        total += heads * (product(rows, d // heads, n) + product(rows, n, d // heads))
        total += product(rows, d, f) + product(rows, f, d)
    return total


@pytest.mark.parametrize("first_token", [False, True])
def test_operations_are_those_of_the_products(tiny_cross_encoder: Path, first_token: bool):
    size = Artifact.open(tiny_cross_encoder).manifest.size
    exact = counted(size, 12, first_token=first_token)
    found = float(roofline.model_flops(size, np.array([12]), first_token=first_token)[0])
    # Of the last layer the floor leaves out what only [CLS] needs: it may be below, by no more than that.
    assert exact * 0.9 <= found <= exact


def test_longer_sequences_cost_more_than_in_proportion(tiny_cross_encoder: Path):
    size = Artifact.open(tiny_cross_encoder).manifest.size
    short, long = roofline.model_flops(size, np.array([20, 40]), first_token=False)
    assert long > 2 * short


def test_a_floor_is_operations_over_the_rate():
    rates = roofline.Rates({"fp32": 2e9}, 1e9, {"fp32": "numpy"})
    assert roofline.floor_ms(1e9, rates, "fp32") == 500.0
    assert roofline.floor_ms(1e9, rates, "fp16") == 500.0
    assert roofline.floor_ms(1e9, rates, "int8") is None


def test_rates_are_measured_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roofline, "SIZE", 64)
    monkeypatch.setattr(roofline, "COPIED", 1_000_000)
    rates = roofline.measure(threads=1)
    assert set(rates.gemm) == set(rates.by) >= {"fp32"}
    assert all(rate > 0 for rate in (*rates.gemm.values(), rates.copy))
    assert rates.by["fp32"] in rates.note()


@pytest.mark.parametrize("shape", [TINY, TINY_ROBERTA, TINY_MODERNBERT, TINY_QWEN3], ids=lambda shape: shape.name)
def test_operations_of_every_family_are_those_that_pytorch_counts(shape: ModelShape):
    """PyTorch counts what transformers multiplies, with all pairs of tokens, also where one does not see the other."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    n, config = 150, transformers.AutoConfig.for_model(**shape.architecture(), attn_implementation="eager")
    with quiet():
        model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(1, n, dtype=torch.long))
    known = shape.sizes
    unseen = sum(n * n - pairs(n, known.causal, kind.window) for kind in known.layers)
    pooler = 2 * shape.width**2 * (shape.family in ("bert", "xlm-roberta"))
    found = float(roofline.model_flops(known, np.array([n]), first_token=False)[0])
    # The angles of rotary positions are a product of transformers 4, of n numbers.
    assert found == pytest.approx(
        counter.get_total_flops() - pooler - 4 * unseen * known.heads * known.head_dim, rel=1e-3
    )


def pairs(n: int, causal: bool, window: int | None) -> int:
    """Pairs (token, token that it sees), one by one."""
    far = n if window is None else window
    return sum(-far <= other - token <= (0 if causal else far) for token in range(n) for other in range(n))
