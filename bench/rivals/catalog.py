"""Who the rivals are. Settings come from each one's own documentation; a child may add what it found at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...engine.models.artifact import Precision

Ability = Literal["encode", "rerank", "together"]
"""`together`: pairs of several requests share its batches, so it gains by being asked several at once."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A rival: the script `children/<child>.py`, run by the environment `environment`.

    environment: "" is our own; else a folder that `tandem bench rivals --install` fills with `packages`; rivals in
                 the same one want the same
    backend:     which of the library's engines; precision: of the weights it is given
    settings:    what it is run with and why, for the table
    """

    name: str
    child: str
    precision: Precision
    settings: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    """Packages that come with those and are taken out again."""
    backend: str = ""
    abilities: tuple[Ability, ...] = ("encode", "rerank")
    differs: str = ""
    """What it computes otherwise than all others, known from its code and seen in its scores."""


_SBERT = "its defaults: 32 pairs a batch, sorted by length, padded"
_FASTEMBED = ("fastembed==0.9.1",)
_FLASHRANK = ("FlashRank==0.2.10",)
_TORCH = "torch==2.13.0"  # the version of constraints.txt
_OPENVINO = ("sentence-transformers[openvino]==6.2.0", _TORCH)
_INFINITY = ("infinity-emb[torch,optimum]==0.0.78", _TORCH)

_ALL = (
    Spec("transformers", "plain_transformers", "fp32", "PyTorch, one padded batch: the model cards' code"),
    Spec("onnxruntime", "plain_onnx", "fp32", "the loop most people write: one batch padded to the longest"),
    Spec("onnxruntime int8", "plain_onnx", "int8", "the same loop on our INT8 graph"),
    Spec("sentence-transformers", "sentence_transformers", "fp32", f"PyTorch, {_SBERT}", backend="torch"),
    Spec("sentence-transformers onnx", "sentence_transformers", "fp32", f"ONNX, {_SBERT}", backend="onnx"),
    Spec(
        "sentence-transformers onnx int8", "sentence_transformers", "int8",
        f"our INT8 graph (it documents dynamic INT8 as the fast ONNX choice on a CPU), {_SBERT}", backend="onnx",
    ),
    Spec(
        "sentence-transformers openvino", "sentence_transformers", "fp32",
        f"OpenVINO, exported by it, {_SBERT}; OpenVINO itself takes bf16 where the processor has it",
        "openvino", _OPENVINO,
        # Texts need none, and beside a PyTorch for CPUs pip puts one for CUDA, which transformers then trips over.
        without=("torchvision",), backend="openvino",
    ),
    Spec(
        "flashrank", "flashrank", "int8", "Ranker.rerank on our INT8 graph (its own models are INT8): one padded batch",
        "flashrank", _FLASHRANK, abilities=("rerank",),
    ),
    Spec("fastembed", "fastembed", "fp32", "a custom model; its defaults: 64 pairs a batch", "fastembed", _FASTEMBED),
    Spec("fastembed int8", "fastembed", "int8", "the same on our INT8 graph", "fastembed", _FASTEMBED),
    Spec(
        "infinity", "infinity", "int8", "AsyncEmbeddingEngine, engine optimum, which prefers INT8 on a CPU, 32 a batch",
        "infinity", _INFINITY, backend="optimum", abilities=("encode", "rerank", "together"),
        differs="it passes no segment ids, which a BERT reranker was trained with",
    ),
)  # fmt: skip
RIVALS: dict[str, Spec] = {spec.name: spec for spec in _ALL}
DEFAULT = ("sentence-transformers", "sentence-transformers onnx int8", "onnxruntime", "onnxruntime int8")
"""What runs without another environment: one of each kind, and the fastest of the kind that most people use."""
