"""The layout of packed sequences, against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.kernels.layout import BLOCK, MAX_SEQUENCES, empty_layout, layout, max_blocks

from .conftest import INTERPRETING


def expected_blocks(lengths: list[int], capacity: int) -> list[tuple[int, int]]:
    blocks, start = [], 0
    for sequence, length in enumerate(lengths):
        blocks += [(sequence, start + place) for place in range(0, length, BLOCK)]
        start += length
    blocks += [(-1, place) for place in range(start, capacity, BLOCK)]
    return blocks


@settings(max_examples=3 if INTERPRETING else 100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.one_of(st.integers(0, 300), st.sampled_from([63, 64, 65, 128])), min_size=1, max_size=20),
    spare=st.integers(0, 200),
    first_position=st.sampled_from([0, 2]),
)
def test_equals_a_loop(device: torch.device, lengths: list[int], spare: int, first_position: int) -> None:
    capacity = sum(lengths) + spare
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    made = layout(cu_seqlens, capacity, first_position=first_position)
    places = [place for length in lengths for place in range(length)] + [0] * spare
    assert made.positions.tolist() == [place + first_position for place in places]
    assert torch.equal(made.cu_seqlens, cu_seqlens)
    blocks = expected_blocks(lengths, capacity)
    assert len(blocks) <= max_blocks(len(lengths), capacity) == len(made.blocks)
    assert [tuple(block) for block in made.blocks.tolist()[: len(blocks)]] == blocks
    rest = made.blocks[len(blocks) :]
    assert (rest[:, 0] == -1).all()
    assert (rest[:, 1] >= capacity).all()


def test_more_sequences_than_a_program_takes_at_a_time(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    few_at_a_time(monkeypatch)
    lengths = [0, 5, 64, 65, 0, 0, 0, 0, 130, 1, 0]
    made = layout(torch.tensor([0, *lengths], device=device).cumsum(0).int(), 300)
    blocks = expected_blocks(lengths, 300)
    assert [tuple(block) for block in made.blocks.tolist()[: len(blocks)]] == blocks
    assert (made.blocks[len(blocks) :, 0] == -1).all()
    assert made.cu_seqlens.tolist() == np.cumsum([0, *lengths]).tolist()


def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sequences at a time where a kernel answers: then a dozen show what thousands would."""
    if INTERPRETING or torch.cuda.is_available():
        from tandem.kernels import layout_triton

        monkeypatch.setattr(layout_triton, "CHUNK", 4)


def test_as_many_sequences_as_a_buffer_takes(device: torch.device) -> None:
    if INTERPRETING:
        pytest.skip("the interpreter takes minutes")
    lengths = np.random.default_rng(0).integers(0, 70, MAX_SEQUENCES).tolist()
    made = layout(torch.tensor([0, *lengths], device=device).cumsum(0).int(), sum(lengths))
    blocks = expected_blocks(lengths, sum(lengths))
    assert [tuple(block) for block in made.blocks.tolist()[: len(blocks)]] == blocks
    with pytest.raises(ValueError, match="16385 sequences; one buffer takes 1 to 16384"):
        layout(torch.zeros(MAX_SEQUENCES + 2, dtype=torch.int32, device=device), 1)


def test_fills_what_it_is_given(device: torch.device) -> None:
    out = empty_layout(2, 100, device)
    cu_seqlens = torch.tensor([0, 70, 80], dtype=torch.int32, device=device)
    assert layout(cu_seqlens, 100, out=out) is out
    fresh = layout(cu_seqlens, 100)
    assert torch.equal(out.blocks, fresh.blocks)
    assert torch.equal(out.positions, fresh.positions)
    assert torch.equal(out.cu_seqlens, cu_seqlens)
    with pytest.raises(ValueError, match=r"layout\.positions has shape \[100\]"):
        layout(cu_seqlens, 128, out=out)
