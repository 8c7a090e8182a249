"""ONNX Runtime on a CPU. On a GPU it is `onnx_cuda`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from ...errors import ArtifactError
from ...platform import denormals
from ...platform.cpu_features import int8_overflows
from ...platform.device import Device
from ...platform.free_memory import free_memory
from ...scheduling.job import Stop
from ...text.tokens import TokenBatch
from .activations import LONG, Activations
from .base import Rows, RuntimeName

Split = Literal["operators", "sequences"]
MASK, SEGMENTS = "attention_mask", "token_type_ids"


class OnnxRuntime:
    """One graph on the CPU (see `base.Runtime`): float32 [n, d] vectors or [n] scores, as the graph gives them.

    Every sequence is a run by itself: nothing is padded or masked, and no score depends on its neighbours through the
    scale that the activations of an INT8 run share. On one core a run of one is as fast a token as a run of four.

    A batch is shared out by whole sequences, a thread to each, instead of every operator over all threads: no thread
    waits for another in each of sixty operators, and what one leaves idle the next sequence uses. `split="operators"`
    is for a model that mostly sees one sequence: a query's encoder.
    """

    name: RuntimeName = "onnx"

    pads = False
    stops = True

    def __init__(self, graph: Path, *, device: Device, split: Split, activations: Activations) -> None:
        """`activations`: what a run takes of memory.

        Raises ArtifactError when ONNX Runtime cannot read `graph`, or it is one that pads.
        """
        self.lanes = device.threads if split == "sequences" else 1
        self._session = cpu_session(graph, threads=1 if self.lanes > 1 else device.threads)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        if MASK in self._inputs:
            raise ArtifactError(f"{graph} is the graph of a GPU, and this is a CPU; choose fp32 or int8")
        self._pool = ThreadPoolExecutor(self.lanes, "tandem-onnx") if self.lanes > 1 else None
        self._activations = activations
        self._giving_back = onnxruntime.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def warm_up(self) -> None:
        """Nothing: a CPU session allocates as it goes."""

    def run(self, batch: TokenBatch) -> Rows:
        """The vectors or scores of the n sequences of `batch`.

        Raises InferenceError where one of them takes more memory than is free.
        """
        return self.run_until(batch, lambda: False)

    def run_until(self, batch: TokenBatch, stop: Stop) -> Rows:
        """The same of the first sequences of `batch`."""
        most = self._at_once(batch)
        if len(batch) == 1:
            return self._run(batch, 0)
        turn = _Turn(len(batch), most, stop)
        outputs: list[Rows | None] = [None] * len(batch)
        lanes = [None] * most

        def lane(_: None) -> None:
            try:
                while (place := turn.take()) is not None:
                    outputs[place] = self._run(batch, place)
            except BaseException:
                turn.end()
                raise

        list(map(lane, lanes) if self._pool is None else self._pool.map(lane, lanes))
        return np.concatenate([output for output in outputs if output is not None])

    def _at_once(self, batch: TokenBatch) -> int:
        """How many of the sequences may run at the same time: fewer than there are lanes where long ones take much."""
        most, longest = min(self.lanes, len(batch)), int(batch.lengths.max())
        return most if longest < LONG else self._activations.at_once(longest, most, free_memory())

    def _run(self, batch: TokenBatch, row: int) -> Rows:
        """float32 [1, d] or [1] of one sequence."""
        feeds = {"input_ids": batch[row][None].astype(np.int64)}
        if SEGMENTS in self._inputs:
            bounds = batch.cu_seqlens[row : row + 2]
            given = batch.segments
            feeds[SEGMENTS] = (
                np.zeros_like(feeds["input_ids"])
                if given is None
                else given[bounds[0] : bounds[1]][None].astype(np.int64)
            )
        long = feeds["input_ids"].shape[1] >= LONG
        with denormals.as_zero():
            rows: Rows = self._session.run(None, feeds, self._giving_back if long else None)[0]
        return rows


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
    if denormals.SUPPORTED:  # of the session's own threads
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        # ONNX Runtime changes the thread that makes a process's first session too: not for good.
        with denormals.as_zero():
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        name = "this graph" if isinstance(graph, bytes) else str(graph)
        raise ArtifactError(f"ONNX Runtime cannot load {name}: {error}; export the model again") from error
