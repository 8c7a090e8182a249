"""Pairs joined on the device: query ids and rows of the token store → packed input of the cross-encoder.

The rules are those of `engine/tokens.py`, which joins pairs on the host, and so of the reference tokenizer: special
tokens around and between the two texts as the model's template has them, truncation `longest_first`. A test holds the
two bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from .checks import check
from .dispatch import fused
from .layout import Layout, check_count, check_layout, copy_layout, empty_layout, sequence_of
from .layout import reference as layout_reference

Ids = (torch.int32, torch.uint16, torch.uint32)


class PairTemplate(Protocol):
    """What is read of an `engine.text.tokens.Template` for pairs: three parts around two texts."""

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def part_segments(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def text_segments(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class PairForm:
    """How a model wants a pair: `template` on a device.

    special:        int32 [2, s]  ids and segment ids of all special tokens, in their order
    parts:          how many of them come before, between and behind the two texts
    text_segments:  segment ids of the two texts
    room:           tokens of both texts that fit beside the special ones
    first_position: position id of a pair's first token (0 for BERT, pad id + 1 for XLM-R)
    pad_id:         what the tail is filled with
    """

    special: torch.Tensor
    parts: tuple[int, int, int]
    text_segments: tuple[int, int]
    room: int
    first_position: int = 0
    pad_id: int = 0

    @classmethod
    def of(
        cls,
        template: PairTemplate,
        max_length: int,
        device: torch.device | str,
        *,
        first_position: int = 0,
        pad_id: int = 0,
    ) -> PairForm:
        """Raises ValueError when `template` is not for two texts or `max_length` leaves them no room."""
        if len(template.parts) != 3:
            raise ValueError(
                f"the template has {len(template.parts)} parts; a pair has three, around and between its texts"
            )
        ids = [token for part in template.parts for token in part]
        segments = [segment for part in template.part_segments for segment in part]
        if max_length <= len(ids):
            raise ValueError(f"max_length {max_length} leaves no room for text beside {len(ids)} special tokens")
        before, between, behind = (len(part) for part in template.parts)
        first, second = template.text_segments
        special = torch.tensor([ids, segments], dtype=torch.int32, device=device)
        return cls(special, (before, between, behind), (first, second), max_length - len(ids), first_position, pad_id)


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Ragged rows of token ids on a device: row i is ids[offsets[i] : offsets[i + 1]].

    ids: int32, uint16 or uint32 [total]; offsets: int64 [n + 1], n >= 1
    """

    ids: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Pairs:
    """Packed pairs.

    ids:      int32 [capacity]   token ids, `pad_id` in the tail
    segments: uint8 [capacity]   segment ids, 0 in the tail
    layout:   one sequence a candidate, in their order; empty where the candidate is none or did not fit
    needed:   int32 [1]          tokens of all pairs; more than the capacity when some did not fit
    """

    ids: torch.Tensor
    segments: torch.Tensor
    layout: Layout
    needed: torch.Tensor


def empty_pairs(candidates: int, capacity: int, device: torch.device | str) -> Pairs:
    """Buffers for `pack` to fill."""
    return Pairs(
        torch.zeros(capacity, dtype=torch.int32, device=device),
        torch.zeros(capacity, dtype=torch.uint8, device=device),
        empty_layout(candidates, capacity, device),
        torch.zeros(1, dtype=torch.int32, device=device),
    )


def pack(
    queries: TokenRows,
    store: TokenRows,
    rows: torch.Tensor,
    owners: torch.Tensor,
    form: PairForm,
    capacity: int,
    *,
    out: Pairs | None = None,
) -> Pairs:
    """Join each candidate's query with its passage and lay the pairs end to end.

    queries:  ids without special tokens
    store:    ids of every passage, without special tokens
    rows:     int64 [c]  the candidates' rows in `store`; any number that is no row, as -1, is no candidate
    owners:   int32 [c]  each candidate's query; any number that is no query is no candidate
    capacity: tokens that `out` holds, below 2³¹

    A pair that would end behind the buffer is left empty, and with it every one after it: `needed` tells. c is 1 to
    16,384.
    """
    device = rows.device
    _check_rows("queries", queries, (torch.int32,), device)
    _check_rows("store", store, Ids, device)
    check("rows", rows, (None,), (torch.int64,), device)
    check_count(len(rows))
    check("owners", owners, (len(rows),), (torch.int32,), device)
    check("form.special", form.special, (2, sum(form.parts)), (torch.int32,), device)
    out = out or empty_pairs(len(rows), capacity, device)
    check("out.ids", out.ids, (capacity,), (torch.int32,), device)
    check("out.segments", out.segments, (capacity,), (torch.uint8,), device)
    check("out.needed", out.needed, (1,), (torch.int32,), device)
    check_layout(out.layout, len(rows), capacity, device)
    if fused(rows):
        from .pack_triton import launch

        launch(queries, store, rows, owners, form, out)
    else:
        _copy(reference(queries, store, rows, owners, form, capacity), out)
    return out


def reference(
    queries: TokenRows, store: TokenRows, rows: torch.Tensor, owners: torch.Tensor, form: PairForm, capacity: int
) -> Pairs:
    """`pack` in PyTorch."""
    real = (rows >= 0) & (rows < len(store)) & (owners >= 0) & (owners < len(queries))
    query, passage = torch.where(real, owners, 0), torch.where(real, rows, 0)
    query_start, passage_start = queries.offsets[query], store.offsets[passage]
    kept_query, kept_passage = longest_first(
        queries.offsets[query + 1] - query_start, store.offsets[passage + 1] - passage_start, form.room
    )
    wanted = torch.where(real, sum(form.parts) + kept_query + kept_passage, 0)
    lengths = torch.where(torch.cumsum(wanted, 0) <= capacity, wanted, 0)
    cu_seqlens = torch.cat([lengths.new_zeros(1), torch.cumsum(lengths, 0)]).to(torch.int32)

    ids, segments = form.special
    before, between, behind = (torch.full_like(lengths, part) for part in form.parts)
    pieces = [
        Piece(ids, segments, torch.zeros_like(lengths), before),
        Piece(queries.ids, form.text_segments[0], query_start, kept_query),
        Piece(ids, segments, before, between),
        Piece(store.ids, form.text_segments[1], passage_start, kept_passage),
        Piece(ids, segments, before + between, behind),
    ]
    packed = layout_reference(cu_seqlens, capacity, first_position=form.first_position)
    return Pairs(*_fill(pieces, cu_seqlens, capacity, form.pad_id), packed, wanted.sum().to(torch.int32)[None])


class Piece(NamedTuple):
    """A stretch of every pair: `length[i]` ids of `source` from `start[i]`, with one segment id or an id for each."""

    source: torch.Tensor
    segment: torch.Tensor | int
    start: torch.Tensor
    length: torch.Tensor


def _fill(
    pieces: list[Piece], cu_seqlens: torch.Tensor, capacity: int, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and segment ids of the buffer, piece by piece."""
    sequence = sequence_of(cu_seqlens, capacity)
    tail = sequence == len(cu_seqlens) - 1
    place = torch.arange(capacity, device=cu_seqlens.device) - cu_seqlens[sequence]
    sequence = torch.where(tail, 0, sequence)
    ids = torch.full((capacity,), pad_id, dtype=torch.int32, device=cu_seqlens.device)
    segments = torch.zeros(capacity, dtype=torch.uint8, device=cu_seqlens.device)
    for source, segment, start, length in pieces:
        count = length[sequence]
        here = (place >= 0) & (place < count) & ~tail
        at = (start[sequence] + place)[here]
        ids[here] = _gather(source, at)
        segments[here] = segment[at].to(torch.uint8) if isinstance(segment, torch.Tensor) else segment
        place = place - count
    return ids, segments


def longest_first(first: torch.Tensor, second: torch.Tensor, room: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths kept of pairs of `first` and `second` tokens when only `room` fit (see `text.tokens.longest_first`).

    Without a choice between a number and a tensor, which would be copied up from the host: a graph may hold this.
    """
    half, odd = room // 2, room % 2
    kept_first = torch.minimum(first, torch.maximum(room - second, half + odd * (first > second)))
    kept_second = torch.minimum(second, torch.maximum(room - first, half + odd * (second >= first)))
    return kept_first, kept_second


def _gather(ids: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """int32: ids[at]. PyTorch indexes no unsigned type beyond a byte, so their bits are taken for signed ones."""
    if ids.dtype == torch.uint16:
        return ids.view(torch.int16)[at].to(torch.int32) & 0xFFFF
    return ids.view(torch.int32)[at]


def _check_rows(name: str, rows: TokenRows, dtypes: tuple[torch.dtype, ...], device: torch.device) -> None:
    check(f"{name}.ids", rows.ids, (None,), dtypes, device)
    check(f"{name}.offsets", rows.offsets, (None,), (torch.int64,), device)
    if len(rows) < 1:
        raise ValueError(f"{name} has no row")


def _copy(source: Pairs, target: Pairs) -> None:
    target.ids.copy_(source.ids)
    target.segments.copy_(source.segments)
    target.needed.copy_(source.needed)
    copy_layout(source.layout, target.layout)
