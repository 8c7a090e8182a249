"""ONNX Runtime on CUDA: few fixed shapes, each a CUDA graph over buffers that stay where they are.

A graph's replay reads and writes the addresses it was captured with, so every shape owns its inputs and its output on
the device, bound once. Per run the host writes ids and mask, launches one graph and reads one output. What a captured
graph must not do (nodes on the CPU, shapes that change) is refused when the session opens, by
`session.disable_cpu_ep_fallback`; a model whose graph has such nodes runs without capture, and says so.

Written after ONNX Runtime's documentation; it has not run on a GPU yet. On a CPU the same code runs uncaptured: that is
how it is tested.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ...errors import DeviceError, TandemError
from ...platform.device import Device
from ...platform.device_errors import translated
from ...platform.device_wide import capturing
from ...scheduling.job import Stop
from ...text.tokens import TokenBatch
from .base import Rows, RuntimeName
from .buckets import Bucket, Buckets
from .onnx import MASK, SEGMENTS

log = logging.getLogger(__name__)
# Padded tokens of a batch. 16k tokens of a 384-wide model are 0.15 TFLOP, 0.3 ms of an H100: launches no longer count.
TOKENS = 16_384
INPUTS = ("input_ids", MASK, SEGMENTS)
# The first runs of a shape: two to settle, one to capture.
CAPTURE_RUNS = 3
# ONNX Runtime captures in CUDA's global mode: another thread's allocation or waiting copy then fails with error 900,
# and the capture with it. So the sessions of an engine that is being replaced do not run meanwhile.
_running = threading.Lock()


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """What ONNX Runtime may use of the card.

    memory: bytes of its arena, None for no limit
    graphs: capture each shape
    """

    memory: int | None = None
    graphs: bool = True

    def provider(self) -> dict[str, str]:
        """The CUDA provider's options by ONNX Runtime's names."""
        options = {
            "device_id": "0",
            # Fixed shapes warmed largest first need no spare; the default doubles the arena at each growth.
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": "1" if self.graphs else "0",
            "use_tf32": "0",
        }
        if self.memory is not None:
            options["gpu_mem_limit"] = str(self.memory)
        return options


class OnnxCudaRuntime:
    """One graph on a GPU, behind the face of `base.Runtime`."""

    name: RuntimeName = "onnx"
    pads = True
    lanes = 1
    stops = False

    def __init__(
        self, graph: Path, *, pad_id: int, dimension: int | None, max_length: int, device: Device,
        options: CudaOptions | None = None,
    ) -> None:  # fmt: skip
        """`dimension` of the vectors, None for scores. Raises DeviceError when the GPU refuses the graph, or the graph
        is one of a CPU."""
        self._pad_id = pad_id
        self._row = () if dimension is None else (dimension,)
        self._place = "cuda" if device.kind == "cuda" else "cpu"
        self.buckets = Buckets(max_length, TOKENS)
        self._session, self.captured = _session(graph, device, options or CudaOptions())
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        if MASK not in self._inputs:
            raise DeviceError(
                f"{graph} reads one sequence a run, which is for CPUs; use the precision fp16 on a GPU, and export it "
                "where the artifact has none"
            )
        self._output = self._session.get_outputs()[0].name
        self._slots: dict[Bucket, _Slot] = {}

    def run_until(self, batch: TokenBatch, stop: Stop) -> Rows:
        """`run`: a batch is one piece of work here."""
        return self.run(batch)

    def warm_up(self) -> None:
        """Run every shape, the largest first, as often as capturing takes."""
        for bucket in self.buckets.largest_first():
            with translated(f"warming up {bucket.batch} sequences of {bucket.length} tokens"):
                for _ in range(CAPTURE_RUNS if self.captured else 1):
                    with self._turn(bucket):
                        self._slot(bucket).run(self._session, bucket.batch)

    def run(self, batch: TokenBatch) -> Rows:
        """float32 [n, d] or [n]: the outputs of the n sequences of `batch`, in its order."""
        outputs = np.empty((len(batch), *self._row), dtype=np.float32)
        for rows, bucket in self.buckets.assign(batch.lengths):
            with translated(f"{bucket.batch} sequences of {bucket.length} tokens"):
                outputs[rows] = self._run(batch.select(rows), bucket)
        return outputs

    def _run(self, batch: TokenBatch, bucket: Bucket) -> Rows:
        with self._turn(bucket):
            slot = self._slot(bucket)
            slot.fill(batch, self._pad_id)
            return slot.run(self._session, len(batch))

    @contextmanager
    def _turn(self, bucket: Bucket) -> Iterator[None]:
        """The device for one run of this shape, against every other capture of the process while it may capture."""
        slot = self._slots.get(bucket)
        captures = self.captured and (slot is None or slot.runs < CAPTURE_RUNS)
        with capturing if captures else nullcontext(), _running:
            yield

    def _slot(self, bucket: Bucket) -> _Slot:
        if bucket not in self._slots:
            graph_id = len(self._slots) + 1 if self.captured else -1
            row = self._row
            self._slots[bucket] = _Slot(self._session, bucket, self._inputs, self._output, row, self._place, graph_id)
        return self._slots[bucket]


class _Slot:
    """The buffers of one shape on the device, bound to the session's inputs and output."""

    def __init__(
        self, session: Any, bucket: Bucket, inputs: list[str], name: str, row: tuple[int, ...], place: str,
        graph_id: int,
    ) -> None:  # fmt: skip
        self.runs = 0
        self._bucket = bucket
        self._binding = session.io_binding()
        self._values = {
            entry: onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((bucket.batch, bucket.length), np.int64), place, 0)
            for entry in inputs
        }
        for entry, value in self._values.items():
            self._binding.bind_ortvalue_input(entry, value)
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type((bucket.batch, *row), np.float32, place, 0)
        self._binding.bind_ortvalue_output(name, self._output)
        self._options = onnxruntime.RunOptions()
        if place == "cuda":
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def fill(self, batch: TokenBatch, pad_id: int) -> None:
        """Write `batch` to the device, padded to the shape.

        Places without a sequence read one padding token: a row that is masked altogether would be a softmax over
        nothing, and NaN.
        """
        shape = (self._bucket.batch, self._bucket.length)
        lengths = np.ones(shape[0], dtype=np.int64)
        lengths[: len(batch)] = batch.lengths
        mask = np.arange(shape[1]) < lengths[:, None]
        real = mask.copy()
        real[len(batch) :] = False
        ids = np.full(shape, pad_id, dtype=np.int64)
        ids[real] = batch.ids
        segments = np.zeros(shape, dtype=np.int64)
        if batch.segments is not None:
            segments[real] = batch.segments
        written = {"input_ids": ids, MASK: mask.astype(np.int64), SEGMENTS: segments}
        for name, value in self._values.items():
            value.update_inplace(written[name])

    def run(self, session: Any, count: int) -> Rows:
        """Run the graph on what is in the buffers; the rows of the first `count` places.

        A run, captured or replayed, ends when its stream has. The binding's `synchronize_outputs` would wait for the
        whole device, which another thread's capture forbids.
        """
        session.run_with_iobinding(self._binding, self._options)
        self.runs += 1
        rows: Rows = self._output.numpy()[:count]
        return rows


# What ONNX Runtime says of a graph that needs the CPU where that was forbidden.
_FALLBACK = "fallback to CPU EP has been explicitly disabled"


def _session(graph: Path, device: Device, options: CudaOptions) -> tuple[Any, bool]:
    """A session on the device, and whether its shapes may be captured."""
    if device.kind == "cpu":
        return _open(graph, ["CPUExecutionProvider"], fallback=True), False
    _find_libraries()
    with capturing:  # the provider begins by waiting for the whole device
        return _cuda_session(graph, options)


def _cuda_session(graph: Path, options: CudaOptions) -> tuple[Any, bool]:
    provider: list[Any] = [("CUDAExecutionProvider", options.provider())]
    try:
        return _open(graph, provider, fallback=False), options.graphs
    except DeviceError as refused:
        if _FALLBACK not in str(refused):
            raise
        # A graph with nodes that only the CPU has (shape arithmetic of families without fusion) cannot be captured.
        plain = CudaOptions(options.memory, graphs=False).provider()
        session = _open(graph, [("CUDAExecutionProvider", plain), "CPUExecutionProvider"], fallback=True)
        log.warning("%s runs without CUDA graphs and with some nodes on the CPU: %s", graph, refused)
        return session, False


def _find_libraries() -> None:
    """Load CUDA's libraries: the provider does not know where pip puts them, and PyTorch does."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")
    elif hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _open(graph: Path, providers: list[Any], *, fallback: bool) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.inter_op_num_threads = 1
    if not fallback:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        with translated(f"the graph {graph}"):
            # Its own fallback would say so on stdout, try again on the CPU, and there hide what the GPU lacked.
            session = onnxruntime.InferenceSession(graph, settings, providers=providers, enable_fallback=0)
    except TandemError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise DeviceError(f"the GPU refused {graph}: {error}") from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    # A provider whose libraries do not load is dropped with a line on stderr, and the CPU would answer in its place.
    if wanted not in session.get_providers():
        raise DeviceError(f"ONNX Runtime could not start {wanted} for {graph}; are CUDA's libraries installed?")
    return session
