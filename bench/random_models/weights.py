"""Random tensors by Hugging Face's names, spread as trained ones are: neither zero nor growing from layer to layer."""

from __future__ import annotations

from typing import Any

from ...engine.models.artifact import Kind
from .shapes import MAX_LENGTH, ModelShape

ROOTS = {"bert": "bert.", "xlm-roberta": "roberta.", "modernbert": "model.", "qwen3": "model."}


def weights(shape: ModelShape, kind: Kind, generator: Any) -> dict[str, Any]:
    """The tensors of a model, float32; of a cross-encoder with a head of one label."""
    made = _Random(generator)
    root = "" if kind == "bi-encoder" else ROOTS[shape.family]
    head = kind == "cross-encoder"
    if shape.family == "modernbert":
        _modernbert(made, shape, root, head)
    elif shape.family == "qwen3":
        _qwen3(made, shape, root, head)
    else:
        _bert(made, shape, root, head)
    return made.tensors


class _Random:
    """What was made so far."""

    def __init__(self, generator: Any) -> None:
        self.tensors: dict[str, Any] = {}
        self._generator = generator

    def normal(self, name: str, *size: int, scale: float, mean: float = 0.0) -> None:
        import torch

        self.tensors[name] = mean + torch.randn(*size, generator=self._generator) * scale

    def linear(self, name: str, out: int, into: int, *, bias: bool = True) -> None:
        self.normal(f"{name}.weight", out, into, scale=into**-0.5)
        if bias:
            self.normal(f"{name}.bias", out, scale=0.02)

    def norm(self, name: str, width: int, *, bias: bool = True) -> None:
        self.normal(f"{name}.weight", width, scale=0.02, mean=1.0)
        if bias:
            self.normal(f"{name}.bias", width, scale=0.02)


def _bert(made: _Random, shape: ModelShape, root: str, head: bool) -> None:
    """BERT, and XLM-R: more positions, one segment, another head."""
    roberta = shape.family == "xlm-roberta"
    positions, segments = (MAX_LENGTH + 1, 1) if roberta else (MAX_LENGTH, 2)
    for table, rows in (("word", shape.vocabulary), ("position", positions), ("token_type", segments)):
        made.normal(f"{root}embeddings.{table}_embeddings.weight", rows, shape.width, scale=0.5)
    made.norm(f"{root}embeddings.LayerNorm", shape.width)
    for number in range(shape.layers):
        layer = f"{root}encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            made.linear(f"{layer}.attention.{part}", shape.width, shape.width)
        made.norm(f"{layer}.attention.output.LayerNorm", shape.width)
        made.linear(f"{layer}.intermediate.dense", shape.wide, shape.width)
        made.linear(f"{layer}.output.dense", shape.width, shape.wide)
        made.norm(f"{layer}.output.LayerNorm", shape.width)
    if not (roberta and head):
        made.linear(f"{root}pooler.dense", shape.width, shape.width)
    if head and roberta:
        made.linear("classifier.dense", shape.width, shape.width)
    if head:
        made.linear("classifier.out_proj" if roberta else "classifier", 1, shape.width)


def _modernbert(made: _Random, shape: ModelShape, root: str, head: bool) -> None:
    made.normal(f"{root}embeddings.tok_embeddings.weight", shape.vocabulary, shape.width, scale=0.5)
    made.norm(f"{root}embeddings.norm", shape.width, bias=False)
    for number in range(shape.layers):
        layer = f"{root}layers.{number}"
        if number:
            made.norm(f"{layer}.attn_norm", shape.width, bias=False)
        made.linear(f"{layer}.attn.Wqkv", 3 * shape.width, shape.width, bias=False)
        made.linear(f"{layer}.attn.Wo", shape.width, shape.width, bias=False)
        made.norm(f"{layer}.mlp_norm", shape.width, bias=False)
        made.linear(f"{layer}.mlp.Wi", 2 * shape.wide, shape.width, bias=False)
        made.linear(f"{layer}.mlp.Wo", shape.width, shape.wide, bias=False)
    made.norm(f"{root}final_norm", shape.width, bias=False)
    if head:
        made.linear("head.dense", shape.width, shape.width, bias=False)
        made.norm("head.norm", shape.width, bias=False)
        made.linear("classifier", 1, shape.width)


def _qwen3(made: _Random, shape: ModelShape, root: str, head: bool) -> None:
    made.normal(f"{root}embed_tokens.weight", shape.vocabulary, shape.width, scale=0.5)
    heads = {"q": shape.heads, "k": shape.kv_heads, "v": shape.kv_heads}
    for number in range(shape.layers):
        layer = f"{root}layers.{number}"
        for part, count in heads.items():
            made.linear(f"{layer}.self_attn.{part}_proj", count * shape.head_dim, shape.width, bias=False)
        made.linear(f"{layer}.self_attn.o_proj", shape.width, shape.heads * shape.head_dim, bias=False)
        for part in "qk":
            made.norm(f"{layer}.self_attn.{part}_norm", shape.head_dim, bias=False)
        for part in ("input", "post_attention"):
            made.norm(f"{layer}.{part}_layernorm", shape.width, bias=False)
        for part in ("gate", "up"):
            made.linear(f"{layer}.mlp.{part}_proj", shape.wide, shape.width, bias=False)
        made.linear(f"{layer}.mlp.down_proj", shape.width, shape.wide, bias=False)
    made.norm(f"{root}norm", shape.width, bias=False)
    if head:
        made.linear("score", 1, shape.width, bias=False)
