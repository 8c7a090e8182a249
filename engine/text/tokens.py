"""TokenBatch: flat token ids and cumulative lengths, the one structure that crosses to the models.

Padding is a runtime's private matter; everything before a runtime works on ragged batches and never pads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Ids = npt.NDArray[np.int32]
CutSide = Literal["right", "left"]
Truncate = Literal["right", "left", "never"]
"""On which side a text that is too long is cut; never: it is refused."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """`n` token sequences laid end to end.

    ids:        int32 [total]   token ids
    cu_seqlens: int64 [n + 1]   sequence i is ids[cu_seqlens[i] : cu_seqlens[i + 1]]; cu_seqlens[0] == 0
    segments:   uint8 [total]   segment (token type) ids, or None for a model without them
    """

    ids: Ids
    cu_seqlens: npt.NDArray[np.int64]
    segments: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 [n]: tokens of each sequence."""
        return np.diff(self.cu_seqlens)

    def __getitem__(self, row: int) -> Ids:
        return self.ids[self.cu_seqlens[row] : self.cu_seqlens[row + 1]]

    def select(self, rows: npt.ArrayLike) -> TokenBatch:
        """The sequences `rows` (int [m]), in that order, copied into a new batch."""
        rows = np.asarray(rows, dtype=np.int64)
        return self._copied(self.cu_seqlens[rows], self.lengths[rows])

    def cut(self, limit: int, side: CutSide = "right") -> TokenBatch:
        """At most `limit` tokens of each sequence: its first, or cut on the left, its last."""
        lengths = np.minimum(self.lengths, limit)
        return self._copied(_starts(self, lengths, side), lengths)

    def _copied(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> TokenBatch:
        source = ragged_indices(starts, lengths)
        segments = None if self.segments is None else self.segments[source]
        return TokenBatch(self.ids[source], cumulative(lengths), segments)

    def pad(self, pad_id: int) -> PaddedBatch:
        """The same sequences as rectangles, padded on the right to the longest."""
        lengths = self.lengths
        width = int(lengths.max(initial=0))
        mask = np.arange(width) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.ids
        segments = np.zeros(mask.shape, dtype=np.int64)
        if self.segments is not None:
            segments[mask] = self.segments
        return PaddedBatch(ids, mask.astype(np.int64), segments)


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """`ids`, attention `mask` (1 real, 0 padding) and `segments`, each int64 [n, width]: what an ONNX graph takes."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]


def cumulative(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """int64 [n + 1]: 0 and the running sums of `lengths` (int [n])."""
    lengths = np.asarray(lengths, dtype=np.int64)
    sums = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=sums[1:])
    return sums


def ragged_indices(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [sum(lengths)]: starts[0], starts[0] + 1, … (lengths[0] of them), then the same for each next row."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    offsets: npt.NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    return offsets + np.arange(total, dtype=np.int64)


def pack(sequences: Iterable[Sequence[int] | Ids]) -> TokenBatch:
    """One batch of `sequences` of token ids, without segments."""
    arrays = [np.asarray(sequence, dtype=np.int32) for sequence in sequences]
    ids = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32)
    return TokenBatch(ids, cumulative([len(array) for array in arrays]))


def concatenate(batches: Sequence[TokenBatch]) -> TokenBatch:
    """The sequences of `batches`, one after the other; all of them have segments or none has."""
    segments = [batch.segments for batch in batches if batch.segments is not None]
    return TokenBatch(
        np.concatenate([batch.ids for batch in batches]),
        cumulative(np.concatenate([batch.lengths for batch in batches])),
        np.concatenate(segments) if segments else None,
    )


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens a model wants around one sequence, or around and between two.

    `parts` are the special ids before, between and after the `len(parts) - 1` sequences; `part_segments` (one for each
    special id) and `text_segments` (one for each sequence) are their segment ids. `whole_first`: of two sequences that
    are too long together the second gives way, and the first only where there is no room for it alone; otherwise the
    longer one gives way.
    """

    parts: tuple[tuple[int, ...], ...]
    part_segments: tuple[tuple[int, ...], ...]
    text_segments: tuple[int, ...]
    whole_first: bool = False

    @property
    def special(self) -> int:
        """Special tokens added to a sequence or pair."""
        return sum(len(part) for part in self.parts)


def whole_first(tail: Sequence[int]) -> Template:
    """The template of a decoder's pairs: what comes before the passage is one sequence, and `tail` ends every pair."""
    return Template(((), (), tuple(tail)), ((), (), (0,) * len(tail)), (0, 0), whole_first=True)


def wrap(
    texts: TokenBatch, template: Template, max_length: int, *, segments: bool, side: CutSide = "right"
) -> TokenBatch:
    """Each sequence of `texts` (without special tokens) cut to fit `max_length` and put between its special tokens.

    side: where tokens are cut off
    """
    kept = np.minimum(texts.lengths, _room(template, max_length))
    return _assemble(template, [(texts.ids, _starts(texts, kept, side), kept)], segments=segments)


def join_pairs(
    query: Ids,
    passages: TokenBatch,
    template: Template,
    max_length: int,
    *,
    segments: bool,
    side: CutSide = "right",
) -> TokenBatch:
    """`[CLS] query [SEP] passage [SEP]`, or as the template has it, for each of `passages`, cut to `max_length`.

    query:    int32 [q]          ids without special tokens
    passages: n sequences        ids without special tokens
    side:     where tokens of either are cut off
    returns:  n sequences, equal to what the Hugging Face tokenizer gives for the pairs with truncation `longest_first`;
              with a template of `whole_first` to what sentence-transformers cuts: the whole text on the right, and the
              tail written back

    Raises InputError when `max_length` does not exceed the template's special tokens.
    """
    kept_query, kept_passage = kept_of_pairs(len(query), passages.lengths, template, max_length)
    starts = np.zeros(len(passages), dtype=np.int64) if side == "right" else len(query) - kept_query
    sides = [(query, starts, kept_query), (passages.ids, _starts(passages, kept_passage, side), kept_passage)]
    return _assemble(template, sides, segments=segments)


def _starts(texts: TokenBatch, kept: npt.NDArray[np.int64], side: CutSide) -> npt.NDArray[np.int64]:
    """int64 [n]: where in `texts.ids` the `kept` tokens of each sequence begin."""
    return texts.cu_seqlens[:-1] if side == "right" else texts.cu_seqlens[1:] - kept


def kept_of_pairs(
    first: int, second: npt.NDArray[np.int64], template: Template, max_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64 [n] each: tokens that are kept of pairs of `first` and `second[i]` tokens, as `template` cuts them."""
    room = _room(template, max_length)
    if not template.whole_first:
        return longest_first(first, second, room)
    kept = min(first, room)
    return np.full(len(second), kept, dtype=np.int64), np.minimum(second, room - kept)


def longest_first(
    first: int, second: npt.NDArray[np.int64], room: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lengths kept of pairs of `first` and `second[i]` tokens when only `room` tokens fit.

    The rule of `tokenizers` (truncation.rs, LongestFirst): the longer side gives way first; where both are longer than
    half the room, each keeps half and the longer one, of equal ones the second, the odd token.
    """
    half, odd = room // 2, room % 2
    kept_first = np.minimum(first, np.maximum(room - second, half + odd * (first > second)))
    kept_second = np.minimum(second, np.maximum(room - first, half + odd * (second >= first)))
    return kept_first, kept_second


def _room(template: Template, max_length: int) -> int:
    room = max_length - template.special
    if room < 1:
        raise InputError(f"max_length {max_length} leaves no room for text beside {template.special} special tokens")
    return room


Side = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _assemble(template: Template, sides: Sequence[Side], *, segments: bool) -> TokenBatch:
    """Lay special tokens and the kept part of each side (flat ids, row starts, row lengths) into one batch."""
    lengths = template.special + np.sum([kept for _, _, kept in sides], axis=0)
    cu_seqlens = cumulative(lengths)
    ids = np.empty(cu_seqlens[-1], dtype=np.int32)
    types = np.empty(cu_seqlens[-1], dtype=np.uint8) if segments else None
    cursor = cu_seqlens[:-1].copy()
    for index, part in enumerate(template.parts):
        for token, segment in zip(part, template.part_segments[index], strict=True):
            ids[cursor] = token
            if types is not None:
                types[cursor] = segment
            cursor += 1
        if index < len(sides):
            flat, starts, kept = sides[index]
            target = ragged_indices(cursor, kept)
            ids[target] = flat[ragged_indices(starts, kept)]
            if types is not None:
                types[target] = template.text_segments[index]
            cursor += kept
    return TokenBatch(ids, cu_seqlens, types)
