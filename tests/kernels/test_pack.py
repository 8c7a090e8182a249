"""Pairs joined on the device equal those joined on the host, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.text.tokens import Template, TokenBatch, cumulative, join_pairs
from tandem.kernels.layout import layout
from tandem.kernels.pack import PairForm, TokenRows, empty_pairs, pack

from .conftest import INTERPRETING
from .test_layout import few_at_a_time

BERT = Template(parts=((101,), (102,), (102,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
XLM_R = Template(parts=((0,), (2, 2), (2,)), part_segments=((0,), (0, 0), (0,)), text_segments=(0, 0))
BARE = Template(parts=((), (7,), ()), part_segments=((), (1,), ()), text_segments=(0, 1))
EXAMPLES = 2 if INTERPRETING else 60
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def rows_of(lengths: list[int], seed: int, dtype: type = np.int32) -> TokenBatch:
    ids = np.random.default_rng(seed).integers(0, 60_000, sum(lengths)).astype(dtype)
    return TokenBatch(ids, cumulative(lengths))


def on_device(batch: TokenBatch, device: torch.device) -> TokenRows:
    return TokenRows(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.cu_seqlens).to(device))


def int64(values: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


@pytest.mark.parametrize("template", [BERT, XLM_R, BARE], ids=["bert", "xlm-r", "bare"])
@pytest.mark.parametrize("store_dtype", [np.uint16, np.int32, np.uint32])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equals_the_host(device: torch.device, template: Template, store_dtype: type, data: st.DataObject) -> None:
    queries, passages = rows_of(data.draw(LENGTHS), 1), rows_of(data.draw(LENGTHS), 2, store_dtype)
    max_length = data.draw(st.integers(template.special + 1, 64))
    count = data.draw(st.integers(1, 12))
    rows = data.draw(st.lists(st.integers(0, len(passages) - 1), min_size=count, max_size=count))
    owners = data.draw(st.lists(st.integers(0, len(queries) - 1), min_size=count, max_size=count))
    first_position, pad_id = data.draw(st.sampled_from([(0, 0), (2, 1)]))
    joined = [
        join_pairs(queries[owner], passages.select([row]), template, max_length, segments=True)
        for row, owner in zip(rows, owners, strict=True)
    ]
    total = sum(len(pair.ids) for pair in joined)
    capacity = total + data.draw(st.integers(0, 150))
    if not capacity:
        return

    form = PairForm.of(template, max_length, device, first_position=first_position, pad_id=pad_id)
    pairs = pack(
        on_device(queries, device),
        on_device(passages, device),
        int64(rows, device),
        int64(owners, device).int(),
        form,
        capacity,
    )

    tail = capacity - total
    np.testing.assert_array_equal(pairs.ids.cpu(), np.concatenate([*(p.ids for p in joined), np.full(tail, pad_id)]))
    expected = np.concatenate([*(p.segments for p in joined), np.zeros(tail)])
    np.testing.assert_array_equal(pairs.segments.cpu(), expected)
    cu_seqlens = cumulative([len(pair.ids) for pair in joined])
    np.testing.assert_array_equal(pairs.layout.cu_seqlens.cpu(), cu_seqlens)
    places = [*(place for pair in joined for place in range(len(pair.ids))), *[0] * tail]
    np.testing.assert_array_equal(pairs.layout.positions.cpu(), np.array(places) + first_position)
    again = layout(pairs.layout.cu_seqlens, capacity, first_position=first_position)
    assert torch.equal(again.blocks, pairs.layout.blocks)
    assert torch.equal(again.positions, pairs.layout.positions)
    assert pairs.needed.item() == total


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_no_candidate_and_what_does_not_fit(
    device: torch.device, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chunked:
        few_at_a_time(monkeypatch)
    queries, passages = rows_of([3, 1], 1), rows_of([10, 0, 20], 2)
    form = PairForm.of(BERT, 64, device)
    rows, owners = [0, -1, 2, 1, 3, 1, 2, 0], [0, 0, 1, 1, 0, 2, 0, 0]
    args = (on_device(queries, device), on_device(passages, device), int64(rows, device), int64(owners, device).int())
    lengths = [16, 0, 24, 4, 0, 0, 26, 16]  # rows -1 and 3 and query 2 do not exist
    for capacity, kept in ((86, 8), (85, 7), (70, 7), (69, 6), (44, 6), (43, 3), (15, 0)):
        pairs = pack(*args, form, capacity)
        expected = lengths[:kept] + [0] * (8 - kept)
        assert torch.diff(pairs.layout.cu_seqlens).tolist() == expected
        assert pairs.needed.item() == sum(lengths)
        assert (pairs.ids[sum(expected) :] == 0).all()
        assert torch.equal(pairs.layout.blocks, layout(pairs.layout.cu_seqlens, capacity).blocks)


def test_buffers_are_filled_in_place_and_completely(device: torch.device) -> None:
    queries, passages = rows_of([3], 1), rows_of([10, 100, 30], 2)
    form = PairForm.of(BERT, 64, device, first_position=2, pad_id=9)
    out = empty_pairs(2, 300, device)
    parts = (out.ids, out.segments, out.needed, out.layout.cu_seqlens, out.layout.positions, out.layout.blocks)
    for rows in ([1, 2], [0, 0]):
        for part in parts:
            part.fill_(77)
        owners = int64([0, 0], device).int()
        given_back = pack(
            on_device(queries, device), on_device(passages, device), int64(rows, device), owners, form, 300, out=out
        )
        fresh = pack(on_device(queries, device), on_device(passages, device), int64(rows, device), owners, form, 300)
        assert given_back is out
        assert torch.equal(out.ids, fresh.ids)
        assert torch.equal(out.segments, fresh.segments)
        assert torch.equal(out.needed, fresh.needed)
        assert torch.equal(out.layout.cu_seqlens, fresh.layout.cu_seqlens)
        assert torch.equal(out.layout.positions, fresh.layout.positions)
        assert torch.equal(out.layout.blocks, fresh.layout.blocks)


def test_thousands_of_candidates(device: torch.device) -> None:
    random = np.random.default_rng(5)
    queries, passages = rows_of([5, 60], 1), rows_of(random.integers(0, 90, 50).tolist(), 2, np.uint16)
    count = 70 if INTERPRETING else 2048
    rows, owners = random.integers(0, 50, count), random.integers(0, 2, count)
    form = PairForm.of(BERT, 96, device)
    pairs = pack(
        on_device(queries, device),
        on_device(passages, device),
        torch.from_numpy(rows).to(device),
        torch.from_numpy(owners.astype(np.int32)).to(device),
        form,
        96 * count,
    )
    joined = [
        join_pairs(queries[owner], passages.select([row]), BERT, 96, segments=True)
        for row, owner in zip(rows, owners, strict=True)
    ]
    expected = np.concatenate([pair.ids for pair in joined])
    np.testing.assert_array_equal(pairs.ids[: len(expected)].cpu(), expected)


def test_a_wrong_tensor_is_refused(device: torch.device) -> None:
    queries, passages = on_device(rows_of([3], 1), device), on_device(rows_of([10], 2), device)
    form = PairForm.of(BERT, 64, device)
    rows, owners = int64([0, 0], device), int64([0, 0], device).int()
    with pytest.raises(ValueError, match=r"rows is torch\.int32"):
        pack(queries, passages, rows.int(), owners, form, 64)
    with pytest.raises(ValueError, match=r"owners has shape \[1\], not \[2\]"):
        pack(queries, passages, rows, owners[:1], form, 64)
    with pytest.raises(ValueError, match="rows is not contiguous"):
        pack(queries, passages, int64([0, 0, 0, 0], device)[::2], owners, form, 64)
    with pytest.raises(ValueError, match="16385 sequences"):
        pack(queries, passages, torch.zeros(16_385, dtype=torch.int64, device=device), owners, form, 64)
    with pytest.raises(ValueError, match="no room"):
        PairForm.of(BERT, 3, device)
    with pytest.raises(ValueError, match="a pair has three"):
        PairForm.of(Template(((1,), (2,)), ((0,), (0,)), (0,)), 64, device)
