"""Every launch of a search compiles for A100 and H100: no spills, within the shared memory, on the tensor cores."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from .conftest import INTERPRETING

pytest.importorskip("triton", reason="Triton is not installed")
if INTERPRETING:
    pytest.skip("Triton interprets here", allow_module_level=True)

MULTIPLYING = {"_attention", "_linear_gelu", "_stream", "_rescore"}
SHARED_KB = {80: 163, 90: 227}


@cache
def compiled() -> list[dict[str, Any]]:
    """The report of `tandem bench kernels --compile`; a scan's size changes nothing in its kernels."""
    script = (
        "import json; from tandem.bench.kernels import compile_report; "
        "print(json.dumps([*compile_report('L6')['kernels'], *compile_report('base')['kernels'],"
        " *compile_report('layout')['kernels'], *compile_report('pack')['kernels'], *compile_report('topk')['kernels'],"
        " *compile_report('scan 1,000')['kernels']]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-6000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_every_kernel_is_there() -> None:
    kernels = {row["kernel"] for row in compiled()}
    expected = {
        "_add_norm",
        "_embed_norm",
        "_first",
        "_pool",
        "_topk",
        "_lengths",
        "_fill",
        "_select",
        "_finish",
        "_map",
        "_positions",
    }
    assert kernels == expected | MULTIPLYING
    assert {row["target"] for row in compiled()} == {80, 90}


def test_nothing_spills_and_everything_fits() -> None:
    for row in compiled():
        assert row["spilled"] == 0, row
        assert row["shared"] <= SHARED_KB[row["target"]] * 1024, row
        assert 0 < row["registers"] * row["warps"] * 32 <= 65_536, row


def test_sizes_of_one_and_filters_compile() -> None:
    """Triton makes a constant of every size that is 1, and a filter is another program."""
    script = """
import torch
from tandem.bench.kernel_compile import report
from tandem.kernels.add_norm import add_norm
from tandem.kernels.attention import HEAD_DIMS, attention, first_attention
from tandem.kernels.embed_norm import embed_norm
from tandem.kernels.layout import empty_layout, layout
from tandem.kernels.linear_gelu import linear_gelu
from tandem.kernels.pack import PairForm, TokenRows, pack
from tandem.kernels.pool import pool
from tandem.kernels.scan import scan
from tandem.kernels.topk import topk

class Template:
    parts, part_segments, text_segments = ((1,), (1,), (1,)), ((1,), (1,), (1,)), (1, 1)

def zeros(*shape, dtype=torch.float16):
    return torch.zeros(*shape, dtype=dtype, device="meta")

int32, int64, one = torch.int32, torch.int64, empty_layout(1, 1, "meta")
where = empty_layout(2, 300, "meta")
row, vector = zeros(1, 8), zeros(8)
rows = TokenRows(zeros(1, dtype=int32), zeros(2, dtype=int64))
form = PairForm.of(Template(), 4, "meta", first_position=1, pad_id=1)
ops = {
    "add_norm": lambda: add_norm(row, row, None, vector, vector, 1e-12),
    "attention": lambda: attention(zeros(1, 3, 1, 32), one),
    "first_attention": lambda: first_attention(zeros(1, 1, 32), zeros(1, 2, 1, 32), one),
    "embed_norm": lambda: embed_norm(
        zeros(1, dtype=int32), zeros(1, dtype=int32), None, row, row, row, vector, vector, 1e-12
    ),
    "layout": lambda: layout(zeros(2, dtype=int32), 1, first_position=1),
    "linear_gelu": lambda: linear_gelu(row, row, zeros(1)),
    "pack": lambda: pack(rows, rows, zeros(1, dtype=int64), zeros(1, dtype=int32), form, 1),
    "pool": lambda: pool(row, zeros(2, dtype=int32), "cls", normalize=False),
    "topk": lambda: topk(
        zeros(1, 1, dtype=torch.float32), zeros(1, 1, dtype=torch.float32), 1.0, 1, cu_seqlens=zeros(2, dtype=int32)
    ),
    "scan": lambda: scan(row, row, 1),
    "scan, wide queries": lambda: scan(row, row.float(), 1),
    "scan, one filter": lambda: scan(zeros(100, 48), zeros(1, 48), 1, allowed=zeros(4, dtype=int32)),
    "scan, own filters": lambda: scan(zeros(100, 48), zeros(2, 48), 1, allowed=zeros(2, 4, dtype=int32)),
}
for width in HEAD_DIMS:
    ops[f"attention {width}"] = lambda width=width: attention(zeros(300, 3, 4, width), where)
    ops[f"first_attention {width}"] = lambda width=width: first_attention(
        zeros(2, 4, width), zeros(300, 2, 4, width), where
    )
assert all(not row["spilled"] for row in report(ops, targets=(90,)))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-6000:]


def test_products_run_on_the_tensor_cores() -> None:
    for row in compiled():
        wanted = {80: "mma", 90: "wgmma"}[row["target"]] if row["kernel"] in MULTIPLYING else None
        assert row["tensor_cores"] == wanted, row
