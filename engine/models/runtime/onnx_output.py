"""What comes to the host of a session's output on the device: one row a sequence."""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from .base import Head, Rows
from .onnx import mean_pool

Shape = tuple[int, ...]
Mask = npt.NDArray[np.int64]


class Output(Protocol):
    """A float32 buffer on the device: logits [batch, 1] or hidden states [batch, length, width]."""

    @property
    def nbytes(self) -> int:
        """What it takes of the device."""
        ...

    def bind(self, binding: Any, name: str) -> None:
        """Let a session write its output `name` here."""
        ...

    def rows(self, mask: Mask) -> Rows:
        """float32 [n] or [n, width] of the first n places, whose `mask` [n, length] it is."""
        ...


def output_for(head: Head, shape: Shape, place: str) -> Output:
    """Hidden states are pooled where they are if PyTorch reaches `place` ("cuda" or "cpu"), else on the host."""
    if head != "logit" and torch_reaches(place):
        return PooledOutput(head, shape, place)
    return WholeOutput(head, shape, place)


def torch_reaches(place: str) -> bool:
    """Whether PyTorch is there and computes on `place`."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return place == "cpu" or torch.cuda.is_available()


class WholeOutput:
    """Copied as it is and pooled on the host: logits, and without PyTorch hidden states."""

    def __init__(self, head: Head, shape: Shape, place: str) -> None:
        self._head = head
        self._value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, place, 0)

    @property
    def nbytes(self) -> int:
        """See `Output`."""
        return int(self._value.tensor_size_in_bytes())

    def bind(self, binding: Any, name: str) -> None:
        """See `Output`."""
        binding.bind_ortvalue_output(name, self._value)

    def rows(self, mask: Mask) -> Rows:
        """See `Output`."""
        output = self._value.numpy()[: len(mask)]
        if self._head == "logit":
            return np.asarray(output[:, 0], dtype=np.float32)
        if self._head == "cls":
            return np.asarray(output[:, 0, :], dtype=np.float32)
        return mean_pool(output, mask)


class PooledOutput:
    """A tensor of PyTorch's, pooled there: of 8,192 tokens of 384 numbers 12 MB stay on the card.

    Nothing orders PyTorch's stream and ONNX Runtime's: whoever writes has waited for the other. A run ends when its
    stream has, and `rows` when the rows are on the host.
    """

    def __init__(self, head: Head, shape: Shape, place: str) -> None:
        import torch

        self._head = head
        self._place = place
        self._hidden = torch.empty(shape, dtype=torch.float32, device=place)
        if place == "cuda":  # the memory may be what an operation still in the queue reads
            torch.cuda.current_stream().synchronize()

    @property
    def nbytes(self) -> int:
        """See `Output`."""
        return int(self._hidden.nbytes)

    def bind(self, binding: Any, name: str) -> None:
        """See `Output`."""
        hidden = self._hidden
        binding.bind_output(name, self._place, 0, np.float32, tuple(hidden.shape), hidden.data_ptr())

    def rows(self, mask: Mask) -> Rows:
        """See `Output`."""
        import torch

        hidden = self._hidden[: len(mask)]
        if self._head == "cls":
            pooled = hidden[:, 0]
        else:
            weights = torch.from_numpy(mask).to(self._place, torch.float32)
            pooled = torch.bmm((weights / weights.sum(dim=1, keepdim=True))[:, None], hidden)[:, 0]
        rows: Rows = pooled.cpu().numpy()
        return rows
