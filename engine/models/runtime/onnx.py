"""ONNX Runtime on a CPU. On a GPU it is `onnx_cuda`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from ...errors import ArtifactError
from ...platform.cpu_features import int8_overflows
from ...platform.device import Device
from ...scheduling.job import Stop
from ...text.tokens import TokenBatch
from .base import Head, Rows, RuntimeName

Split = Literal["operators", "sequences"]


class OnnxRuntime:
    """One graph on the CPU (see `base.Runtime`).

    A batch is shared out by whole sequences, one thread to each share, instead of every operator over all
    threads: no thread waits for another in each of sixty operators, and what one leaves idle the next sequence uses. A
    lone sequence has one share, so `split="operators"` is for a model that mostly sees one: a query's encoder.

    `alone` runs every sequence by itself: for INT8, whose activations share one scale a run, so that a score would
    depend on the neighbours. Nothing is padded then, and on one core a run of one is as fast a token as a run of four.

    head `mean` or `cls`: the graph gives hidden states [n, width, d], pooled here to [n, d];
    head `logit`:         the graph gives logits [n, 1], returned as [n].
    """

    name: RuntimeName = "onnx"

    def __init__(self, graph: Path, *, pad_id: int, head: Head, device: Device, split: Split, alone: bool) -> None:
        """Raises ArtifactError when ONNX Runtime cannot read `graph`."""
        self._pad_id = pad_id
        self._head = head
        self._alone = alone
        self.pads = not alone
        self.stops = alone
        self.lanes = device.threads if split == "sequences" else 1
        self._session = cpu_session(graph, threads=1 if self.lanes > 1 else device.threads)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._pool = ThreadPoolExecutor(self.lanes, "tandem-onnx") if self.lanes > 1 else None

    def warm_up(self) -> None:
        """Nothing: a CPU session allocates as it goes."""

    def run(self, batch: TokenBatch) -> Rows:
        """float32 [n, d] pooled hidden states, or float32 [n] logits, of the n sequences of `batch`."""
        return self.run_until(batch, lambda: False)

    def run_until(self, batch: TokenBatch, stop: Stop) -> Rows:
        """The same of the first sequences of `batch`; all of them where sequences share runs."""
        if self._alone:
            parts = [batch.select(np.array([row])) for row in range(len(batch))]
        else:
            parts, stop = [batch.select(some) for some in shares(batch.lengths, self.lanes)], lambda: False
        if len(parts) == 1:
            return self._run(batch)
        turn = _Turn(len(parts), self.lanes, stop)
        outputs: list[Rows | None] = [None] * len(parts)
        lanes = [None] * min(self.lanes, len(parts))

        def lane(_: None) -> None:
            try:
                while (place := turn.take()) is not None:
                    outputs[place] = self._run(parts[place])
            except BaseException:
                turn.end()
                raise

        list(map(lane, lanes) if self._pool is None else self._pool.map(lane, lanes))
        return np.concatenate([output for output in outputs if output is not None])

    def _run(self, batch: TokenBatch) -> Rows:
        padded = batch.pad(self._pad_id)
        feeds = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": padded.segments}
        output = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
        if self._head == "logit":
            return np.asarray(output[:, 0], dtype=np.float32)
        if self._head == "cls":
            return np.asarray(output[:, 0, :], dtype=np.float32)
        return mean_pool(output, padded.mask)


class _Turn:
    """Which part a lane runs next: the first that no lane has, until `stop`; each lane has at least one."""

    def __init__(self, count: int, lanes: int, stop: Stop) -> None:
        self._count = count
        self._lanes = lanes
        self._stop = stop
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        with self._lock:
            if self._next >= self._count:
                return None
            if self._next >= self._lanes and self._stop():
                self._count = self._next
                return None
            self._next += 1
            return self._next - 1

    def end(self) -> None:
        with self._lock:
            self._count = self._next


def shares(lengths: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """At most `count` runs of neighbouring rows with about equally many tokens; none is empty. `lengths` is int [n]."""
    middles = np.cumsum(lengths) - lengths / 2
    owner = np.minimum(middles * count // max(int(lengths.sum()), 1), count - 1)
    rows = np.arange(len(lengths))
    return [rows[owner == share] for share in np.unique(owner)]


def mean_pool(hidden: npt.NDArray[Any], mask: npt.NDArray[np.int64]) -> Rows:
    """float32 [n, d]: the mean of `hidden` [n, width, d] over the positions where `mask` [n, width] is 1."""
    weights = mask.astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    pooled: Rows = np.matmul(weights[:, None, :], hidden.astype(np.float32, copy=False))[:, 0, :]
    return pooled


def cpu_session(graph: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU as the engine runs them: threads that sleep while they wait, INT8 products that are exact.

    graph: a file or a serialised model. Raises ArtifactError when ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Workers that wait by spinning take the core that recall needs next: encoding a query and recalling took 9 ms with
    # them (p95 15), 5 without (p95 7).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, the fast kernel's 16-bit sums triple the bundled reranker's error (mean .84 of a logit, .28 exact);
    # the exact one takes 38 ms for a pair of 150 tokens instead of 32, FP32 51.
    options.add_session_config_entry("session.x64quantprecision", "1" if int8_overflows() else "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        name = "this graph" if isinstance(graph, bytes) else str(graph)
        raise ArtifactError(f"ONNX Runtime cannot load {name}: {error}; export the model again") from error
