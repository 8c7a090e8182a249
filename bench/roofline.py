"""The floor: the least a stage can take on this machine, from rates measured in the same run.

A rate is the best of several runs and of several libraries, since a floor is what the machine can do. What a floor
leaves out (softmax, normalisation, tokenising) is real work, so a system at twice its floor is a good one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..engine.models.artifact import Precision
from ..engine.models.runtime.families.shape import LayerKind, Shape
from ..engine.models.runtime.onnx import cpu_session
from ..engine.platform.device import available_cores

SIZE = 1024
"""Edge of the square products: 2 GFLOP each, beyond any cache's favour and below a tenth of a second."""
REPEATS = 7
COPIED = 256_000_000
"""Bytes of the array that is copied: beyond any cache."""
Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine reached.

    gemm: operations a second by precision (bf16, int8 where they can be measured); by: the library that reached it
    copy: bytes a second, those read and those written, while all threads copy
    """

    gemm: dict[str, float]
    copy: float
    by: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def note(self) -> str:
        """The rates in one sentence."""
        products = ", ".join(f"{name} {rate / 1e9:.0f} G/s ({self.by[name]})" for name, rate in self.gemm.items())
        return f"measured rates: matrix products {products}; memory {self.copy / 1e9:.1f} GB/s"


def measure(threads: int) -> Rates:
    """This machine's rates with `threads` threads, in about a second when it is quiet."""
    gemm: dict[str, float] = {}
    by: dict[str, str] = {}
    for precision, library, product in _products(threads):
        rate = 2 * SIZE**3 / _best(product)
        if rate > gemm.get(precision, 0.0):
            gemm[precision], by[precision] = rate, library
    return Rates(gemm, _copy_rate(threads), by)


def _copy_rate(threads: int) -> float:
    """Bytes a second with all threads: one alone does not fill the memory's lanes."""
    source = np.ones(COPIED // 4, dtype=np.float32)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return 2 * COPIED / seconds


class Sized(Protocol):
    """What a BERT-like model's work depends on: a manifest's size, or a shape of random weights."""

    @property
    def layers(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def wide(self) -> int: ...


def model_flops(model: Sized | Shape, lengths: Lengths, *, first_token: bool) -> npt.NDArray[np.float64]:
    """float64 [n]: floating point operations of the matrix products for sequences of `lengths` tokens.

    A layer and n tokens: 2n d (q + 2k + q + 2f) for the projections (q and k wide are the heads of queries and of keys,
    both d in a BERT; 3f where a feed-forward has a gate), 4 q for each pair of tokens one of which sees the other: n²,
    about half where attention is causal, fewer in a window. With `first_token` (a cross-encoder) the last layer needs
    one token only after the keys and values: 2n d · 2k there, and 4 n q.
    """
    shape = model if isinstance(model, Shape) else _like_bert(model)
    d, q, k = shape.width, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    n = lengths.astype(np.float64)
    projections = 2 * n * d * (2 * q + 2 * k + (3 if shape.pre_norm else 2) * shape.wide)
    seen = [_seen(n, shape, kind.window) for kind in shape.layers]
    last = 2 * n * d * 2 * k + 4 * n * q if first_token else projections + 4 * seen[-1] * q
    flops: npt.NDArray[np.float64] = projections * (len(seen) - 1) + 4 * q * sum(seen[:-1], np.zeros_like(n)) + last
    return flops


def _like_bert(model: Sized) -> Shape:
    """A model that nothing more is known of."""
    layers = (LayerKind(),) * model.layers
    return Shape(0, 0, model.width, model.wide, heads=1, kv_heads=1, head_dim=model.width, eps=0.0, layers=layers)


def _seen(n: npt.NDArray[np.float64], shape: Shape, window: int | None) -> npt.NDArray[np.float64]:
    """float64 [n]: pairs (token, token that it sees) of sequences of `n` tokens."""
    far = n - 1 if window is None else np.minimum(window, n - 1)
    before = far * n - far * (far + 1) / 2
    return n + before * (1 if shape.causal else 2)


def floor_ms(flops: float, rates: Rates, precision: Precision) -> float | None:
    """Milliseconds of `flops` at the measured rate of `precision`; without one FP16 is computed in FP32, as on CPUs."""
    rate = rates.gemm.get(precision) or (rates.gemm.get("fp32") if precision == "fp16" else None)
    return None if rate is None else flops / rate * 1e3


def _best(work: Callable[[], Any]) -> float:
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _products(threads: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Precision, library and a product of two SIZE × SIZE matrices, for every library that is installed."""
    ones = np.ones((SIZE, SIZE), dtype=np.float32)
    if threads == available_cores():  # its BLAS takes every core
        yield "fp32", "numpy", lambda: ones @ ones
    yield from _torch_products(threads)
    yield from _onnx_products(threads, ones)


def _torch_products(threads: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    try:
        import torch
    except ImportError:
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        single = torch.ones(SIZE, SIZE)
        half, byte = single.bfloat16(), single.to(torch.int8)
        yield "fp32", "PyTorch", lambda: single @ single
        yield "bf16", "PyTorch", lambda: half @ half
        yield "int8", "PyTorch", lambda: torch._int_mm(byte, byte)
    finally:
        torch.set_num_threads(before)


def _onnx_products(threads: int, ones: npt.NDArray[np.float32]) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """The kernels our graphs run on: MatMul in FP32, MatMulInteger as dynamic INT8 has it."""
    try:
        from onnx import TensorProto
    except ImportError:
        return
    single = _onnx_product("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, threads)
    yield "fp32", "ONNX Runtime", lambda: single.run(None, {"a": ones})
    byte = _onnx_product("MatMulInteger", TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, threads)
    bytes_ = ones.astype(np.uint8)
    yield "int8", "ONNX Runtime", lambda: byte.run(None, {"a": bytes_})


def _onnx_product(op: str, left: int, right: int, result: int, threads: int) -> Any:
    from onnx import helper

    weights = helper.make_tensor(
        "b",
        right,
        [SIZE, SIZE],
        np.ones((SIZE, SIZE), dtype=helper.tensor_dtype_to_np_dtype(right)).tobytes(),
        raw=True,
    )
    graph = helper.make_graph(
        [helper.make_node(op, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", left, [SIZE, SIZE])],
        [helper.make_tensor_value_info("c", result, [SIZE, SIZE])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return cpu_session(model.SerializeToString(), threads)
