"""The cost model: how long a micro-batch takes on this machine, and so how many candidates fit in the time left."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64] | np.int64
# Each measured shape: (sequences, tokens each), the most telling first, since measuring stops when its time is up.
# Widths from a short query to a long passage; at 128 and 256 tokens several sizes, to choose the best micro-batch from.
PROBES: tuple[tuple[int, int], ...] = (
    (1, 128), (4, 128), (1, 16), (2, 256), (2, 128), (1, 256), (8, 128), (8, 32), (4, 256), (1, 512),
)  # fmt: skip
# A GPU is idle below some ten thousand tokens; up to the largest bucket of the packed runtime (48k).
GPU_PROBES: tuple[tuple[int, int], ...] = (
    (100, 128), (1, 16), (64, 256), (8, 128), (384, 128), (256, 128), (32, 512), (128, 128), (1, 128), (64, 32),
)  # fmt: skip
# Three unknowns want more than three probes; all ten, twice each, take 0.4 s for MiniLM-L6 in INT8 on two cores.
FEWEST_PROBES = 5
PROBING_SECONDS = 0.6
# A model that reads more than any of them is measured on one sequence of twice the length, and again, as long as the
# next is predicted to end within so many seconds from the start. Each is run once: a long run takes its memory anew.
LONG_SECONDS = 1.5
# Under a deadline sequences are served in blocks of their order, longest first inside each, and a block that the
# deadline cuts is dropped whole, or the longest of it would stand before the best. Sorting 16 passages of one corpus
# keeps the padding of micro-batches of 4 under 10 %; where nothing is padded, 4 do for the estimate of the time.
PADDED_BLOCK, UNPADDED_BLOCK = 16, 4
# Two cores that meet every 1,024 tokens take 662 ms for 100 pairs, every 4,096 tokens 595 ms, at the end only 588 ms.
UNPADDED_TOKENS = 4096
# What a running estimate takes from each new observation. 0.1 follows a machine whose other tenant comes or goes within
# some twenty micro-batches (half a second of reranking) and forgets one slow batch as quickly.
LEARNING_RATE = 0.1


@dataclass(slots=True)
class Pace:
    """How many times slower than it was measured a machine computes now; a model and its early exit have one."""

    drift: float = 1.0


@dataclass(slots=True)
class CostModel:
    """Seconds of a micro-batch of n sequences padded to `width` tokens: `drift * (a + n * (b * width + c * width²))`.

    `b` is the matrix products (linear in tokens), `c` the attention (quadratic in length), `a` the call. Fitted once on
    probes; `pace.drift` then follows what runs really take. Beyond the `reach` of the short probes the attention's
    intermediates leave the caches, and each token² more takes `beyond` besides: of a model of 64 wide, 8,192 tokens
    take four times what the short ones foretell.

    `tokens` is the padded size of the best micro-batch measured, `block` the sequences that a job with a deadline may
    sort by length (see `job.Job`). With `lanes` sequences computed at once, one to a core, n counts up to whole rounds:
    three sequences on two cores take as long as four. `most` is the size of a micro-batch that nobody else waits for
    and that can be interrupted.
    """

    call: float
    token: float
    square: float
    tokens: int
    pace: Pace = field(default_factory=Pace)
    block: int = PADDED_BLOCK
    lanes: int = 1
    most: int = 0
    pads: bool = True
    beyond: float = 0.0
    reach: int = 0

    def __post_init__(self) -> None:
        self.most = self.most or self.tokens

    def unpadded(self, *, interruptible: bool) -> None:
        """For a runtime that computes no padding; its micro-batches may be large where it can be interrupted."""
        self.pads, self.block = False, max(UNPADDED_BLOCK, self.lanes)
        if interruptible:
            self.most = max(self.tokens, UNPADDED_TOKENS)

    def share(self, part: float) -> CostModel:
        """The same for a `part` of the model, at the same pace."""
        times = {name: part * getattr(self, name) for name in ("call", "token", "square", "beyond")}
        return replace(self, **times)

    @property
    def drift(self) -> float:
        """`pace.drift`."""
        return self.pace.drift

    def seconds(self, sequences: int, width: int) -> float:
        """Predicted seconds of one micro-batch."""
        return self.drift * self._undrifted(sequences, width)

    def observe(self, lengths: npt.NDArray[np.int64], seconds: float) -> None:
        """Learn from a micro-batch of sequences of `lengths` tokens that took `seconds`."""
        # Bounded: one stall (a paused process, a page fault storm) must not make the model refuse everything after.
        if self.pads:
            expected = self._undrifted(len(lengths), int(lengths.max()))
        else:
            expected = self.call + self.lanes * _busiest(self._sequence(lengths), self.lanes)
        ratio = min(max(seconds / expected, 0.2), 5.0)
        self.pace.drift += LEARNING_RATE * (ratio - self.drift)

    def each(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """float64 [n]: seconds of each sequence of `lengths` tokens, in a full micro-batch of its like."""
        together = np.maximum(1, self.tokens // np.maximum(lengths, 1))
        seconds: npt.NDArray[np.float64] = self.drift * (self.call / together + self._sequence(lengths))
        return seconds

    def fitting(self, lengths: npt.NDArray[np.int64], seconds: float | None) -> int:
        """How many of the first sequences of `lengths` (tokens) fit into `seconds` (None: no limit)."""
        if seconds is None:
            return len(lengths)
        return int(np.searchsorted(np.cumsum(self.each(lengths)), seconds, side="right"))

    def _undrifted(self, sequences: int, width: int) -> float:
        return self.call + _whole_rounds(sequences, self.lanes) * float(self._sequence(np.int64(width)))

    def _sequence(self, tokens: Tokens) -> npt.NDArray[np.float64]:
        """Seconds that each sequence of so many `tokens` adds, at the pace of the probes."""
        more = np.maximum(tokens, self.reach) ** 2 - self.reach**2
        seconds: npt.NDArray[np.float64] = self.token * tokens + self.square * tokens**2 + self.beyond * more
        return seconds

    def lengthen(self, width: int, seconds: float) -> None:
        """Learn `beyond` from one sequence of `width` tokens, more than `reach`, that took `seconds`."""
        self.beyond = 0.0
        more = _whole_rounds(1, self.lanes) * (width**2 - self.reach**2)
        self.beyond = max(0.0, seconds - self._undrifted(1, width)) / more


def exit_saves(
    lengths: npt.NDArray[np.int64], whole: CostModel, early: CostModel | None, finalists: int | None
) -> bool:
    """Whether sequences of `lengths` tokens take less by an early exit, and `finalists` of them by all layers, than all
    of them by all layers.

    With an exit at .44 of the model and 20 finalists, from 36 candidates on; at 100 candidates, up to 56 finalists.
    """
    if early is None or finalists is None or finalists >= len(lengths):
        return False
    each = whole.each(lengths)
    return float(early.each(lengths).sum() + finalists * each.mean()) < float(each.sum())


def _whole_rounds(sequences: int, lanes: int) -> int:
    return -(-sequences // lanes) * lanes


def _busiest(seconds: npt.NDArray[np.float64], lanes: int) -> float:
    """Seconds of the lane that ends last, where each lane takes the next sequence as soon as it has none."""
    ends = [0.0] * lanes
    for each in seconds.tolist():
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def learn(
    measure: Callable[[int, int], float],
    max_length: int,
    probes: Sequence[tuple[int, int]] = PROBES,
    *,
    lanes: int = 1,
) -> CostModel:
    """Fit a cost model on the probes that `max_length` allows, and on longer ones where there is time for them;
    `measure(sequences, width)` gives seconds of one run."""
    shapes: list[tuple[int, int]] = []
    seconds: list[float] = []
    start = time.perf_counter()
    for shape in [shape for shape in probes if shape[1] <= max_length] or [(1, max_length)]:
        if len(shapes) >= FEWEST_PROBES and time.perf_counter() - start > PROBING_SECONDS:
            break
        shapes.append(shape)
        seconds.append(min(measure(*shape), measure(*shape)))  # the first run of a shape allocates
    call, token, square = _fit([(_whole_rounds(n, lanes), width) for n, width in shapes], seconds)
    reach = max(width for _, width in shapes)
    cost = CostModel(call, token, square, tokens=_best_tokens(shapes, seconds), lanes=lanes, reach=reach)
    for width in _longer(max(width for _, width in probes), max_length):
        if time.perf_counter() - start + cost.seconds(1, width) > LONG_SECONDS:
            break
        cost.lengthen(width, measure(1, width))
    return cost


def _longer(width: int, max_length: int) -> Iterator[int]:
    """Twice `width`, twice that, …, and `max_length`."""
    while width < max_length:
        width = min(2 * width, max_length)
        yield width


def _fit(shapes: Sequence[tuple[int, int]], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Least squares of relative errors, no coefficient below 0 (a negative one is dropped, the rest refitted)."""
    n, width = np.array(shapes, dtype=np.float64).T
    columns = np.stack([np.ones_like(n), n * width, n * width**2], axis=1) / np.array(seconds)[:, None]
    active = [0, 1, 2]
    solution = np.zeros(3)
    while active:
        fitted = np.linalg.lstsq(columns[:, active], np.ones(len(n)), rcond=None)[0]
        if (fitted >= 0).all():
            solution[active] = fitted
            break
        active.pop(int(np.argmin(fitted)))
    return float(solution[0]), float(solution[1]), float(solution[2])


def _best_tokens(shapes: Sequence[tuple[int, int]], seconds: Sequence[float]) -> int:
    """Padded tokens of the micro-batch with the most tokens a second, among the probes of 128 tokens and more."""
    sizes = [(n * width, n * width / spent) for (n, width), spent in zip(shapes, seconds, strict=True) if width >= 128]
    if not sizes:
        return max(n * width for n, width in shapes)
    by_size: dict[int, list[float]] = {}
    for size, rate in sizes:
        by_size.setdefault(size, []).append(rate)
    return max(by_size, key=lambda size: float(np.mean(by_size[size])))
