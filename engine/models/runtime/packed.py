"""The packed runtime: models without padding, one CUDA graph a token bucket. The one runtime that needs PyTorch.

A batch is laid into a buffer of fixed size (the bucket's tokens and sequences), the rest of which is tail (see
`kernels/layout.py`); a graph captured over that buffer is replayed whatever the lengths are. Nothing inside allocates
or waits. On a CPU the same code runs through the kernels' references in FP32, without buckets: exact and slow, the
oracle of the ONNX graphs. On CUDA it has not run yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ....kernels.layout import Layout, empty_layout, layout
from ...errors import ArtifactError, InputError
from ...platform.device import Device
from ...platform.device_errors import translated
from ...scheduling.job import Stop
from ...text.tokens import TokenBatch, cumulative
from ..artifact import WEIGHTS, Artifact
from . import cuda_graphs
from .base import POOLINGS, Head, Rows, RuntimeName
from .buckets import PACKED_TOKENS
from .cuda_graphs import Input
from .families.buffers import Buffers
from .families.model import PackedModel

log = logging.getLogger(__name__)
# Sequences that a bucket has room for: one each 16 tokens, which only batches of very short texts exceed.
SHORTEST = 16


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A buffer's size: `tokens`, in at most `sequences` sequences."""

    tokens: int
    sequences: int


BUCKETS = tuple(TokenBucket(tokens, max(4, tokens // SHORTEST)) for tokens in PACKED_TOKENS)


def bucket_for(tokens: int, sequences: int) -> TokenBucket | None:
    """The smallest bucket that holds so much, None when none does."""
    return next((each for each in BUCKETS if each.tokens >= tokens and each.sequences >= sequences), None)


class PackedRuntime:
    """One model on a GPU, or its oracle on a CPU, behind the face of `base.Runtime`."""

    name: RuntimeName = "packed"
    pads = False
    lanes = 1
    stops = False

    def __init__(self, model: PackedModel, *, normalize: bool = False) -> None:
        """`normalize`: vectors of length 1, as the graphs of a model that is compared by the cosine give them."""
        self.model = model
        self._normalize = normalize
        self._cuda = model.device.type == "cuda"
        self._captured: dict[TokenBucket, _Captured] = {}
        self.buffers = model.buffers(BUCKETS[-1].tokens) if self._cuda else None
        self._pool: Any = torch.cuda.graph_pool_handle() if self._cuda else None

    @classmethod
    def open(cls, artifact: Artifact, *, device: Device) -> PackedRuntime:
        """The verified weights of `artifact`, FP16 on a GPU and FP32 on a CPU.

        Raises ArtifactError when they are damaged or not those of the configuration, OutOfMemory when they do not fit.
        """
        from safetensors.torch import load_file

        artifact.verify([WEIGHTS])
        if device.kind == "cuda":
            # Sums of split products in half precision would cost ranks. It holds for the process, as PyTorch has it.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        dtype = torch.float16 if device.kind == "cuda" else torch.float32
        tensors = load_file(artifact.path / WEIGHTS)
        manifest = artifact.manifest
        head = _head(artifact)
        with translated(f"the weights of {artifact.manifest.name}"):
            try:
                model = PackedModel(artifact.architecture(), tensors, head, dtype, device.kind)
            except KeyError as error:
                raise ArtifactError(f"{artifact.path / WEIGHTS} lacks {error}; export the model again") from error
        if artifact.manifest.max_length > model.shape.positions:
            raise ArtifactError(
                f"{artifact.path} says that it reads {artifact.manifest.max_length} tokens and has "
                f"{model.shape.positions} positions; export the model again"
            )
        return cls(model, normalize=manifest.similarity == "cosine")

    def run_until(self, batch: TokenBatch, stop: Stop) -> Rows:
        """`run`: a batch is one piece of work here."""
        return self.run(batch)

    def warm_up(self) -> None:
        """Capture every bucket, the largest first, so that the others find their memory already taken."""
        if self._cuda:
            for bucket in reversed(BUCKETS):
                self._graph(bucket)

    def run(self, batch: TokenBatch) -> Rows:
        """float32 [n, d] or [n]: the outputs of the n sequences of `batch`, in its order."""
        shape = self.model.shape
        if len(batch.ids) and not 0 <= int(batch.ids.min()) <= int(batch.ids.max()) < shape.vocabulary:
            raise InputError(f"a token id is outside the model's {shape.vocabulary}")
        if len(batch) and (longest := int(batch.lengths.max())) > shape.positions:
            raise InputError(f"a sequence of {longest} tokens is longer than the model's {shape.positions} positions")
        outputs = []
        for part in split(batch.lengths, BUCKETS[-1]):
            some = batch if len(part) == len(batch) else batch.select(part)
            with translated(f"{len(some)} sequences of {len(some.ids)} tokens"):
                outputs.append(self._on_gpu(some) if self._cuda else self._on_cpu(some))
        return np.concatenate(outputs)

    def _on_cpu(self, batch: TokenBatch) -> Rows:
        ids = torch.from_numpy(batch.ids.astype(np.int32))
        segments = None if batch.segments is None else torch.from_numpy(np.ascontiguousarray(batch.segments))
        placed = layout(torch.from_numpy(batch.cu_seqlens.astype(np.int32)), len(batch.ids))
        buffers = self.model.buffers(len(batch.ids))
        rows: Rows = self.model.run(ids, segments, placed, buffers, normalize=self._normalize).numpy()
        return rows

    def _on_gpu(self, batch: TokenBatch) -> Rows:
        bucket = bucket_for(len(batch.ids), len(batch))
        if bucket is None:
            raise InputError(f"a batch of {len(batch.ids)} tokens exceeds the largest bucket")
        return self._graph(bucket).run(batch)

    def _graph(self, bucket: TokenBucket) -> _Captured:
        if bucket not in self._captured:
            if self.buffers is None:
                raise RuntimeError("graphs exist on a GPU only")
            with translated(f"capturing a graph of {bucket.tokens} tokens"):
                self._captured[bucket] = _Captured(self.model, bucket, self.buffers, self._pool, self._normalize)
        return self._captured[bucket]


def _head(artifact: Artifact) -> Head:
    """What its answers are."""
    if artifact.manifest.kind == "cross-encoder":
        return "logit"
    found = next((pooling for pooling in POOLINGS if pooling == artifact.manifest.pooling), None)
    if found is None:
        raise ArtifactError(f"{artifact.path} pools by {artifact.manifest.pooling}, which the packed runtime does not")
    return found


class _Captured:
    """A graph over buffers of one bucket: ids, segments and cumulative lengths in, `output` out."""

    def __init__(self, model: PackedModel, bucket: TokenBucket, buffers: Buffers, memory: Any, normalize: bool) -> None:
        device = model.device
        self._ids = Input((bucket.tokens,), torch.int32, device)
        self._segments = Input((bucket.tokens,), torch.uint8, device)
        self._bounds = Input((bucket.sequences + 1,), torch.int32, device)
        empty = empty_layout(bucket.sequences, bucket.tokens, device)
        placed = Layout(self._bounds.tensor, empty.positions, empty.blocks)

        def forward() -> None:
            layout(placed.cu_seqlens, bucket.tokens, out=placed)
            self.output = model.run(self._ids.tensor, self._segments.tensor, placed, buffers, normalize=normalize)

        self._replay = cuda_graphs.captured(forward, memory)

    def run(self, batch: TokenBatch) -> Rows:
        """The outputs of `batch`, which fits the bucket."""
        # Behind the batch the tail keeps ids of an earlier one: valid ids, whose results nobody reads.
        self._ids.write(batch.ids)
        self._segments.write(np.zeros(len(batch.ids), np.uint8) if batch.segments is None else batch.segments)
        self._bounds.write_bounds(batch.cu_seqlens)
        self._replay()
        rows: Rows = self.output[: len(batch)].cpu().numpy()  # waits for the graph: same stream
        return rows


def split(lengths: npt.NDArray[np.int64], largest: TokenBucket) -> list[npt.NDArray[np.int64]]:
    """Runs of neighbouring rows, each within `largest`; a row that alone is longer is a run by itself."""
    bounds = cumulative(lengths)
    parts, start = [], 0
    while start < len(lengths):
        stop = int(np.searchsorted(bounds, bounds[start] + largest.tokens, side="right")) - 1
        stop = max(start + 1, min(stop, start + largest.sequences, len(lengths)))
        parts.append(np.arange(start, stop))
        start = stop
    return parts
