"""A loaded model's traced graph, for a CPU or for a GPU."""

from __future__ import annotations

from pathlib import Path

from .graph import traced_attention
from .graph.lowering import Target
from .graph.trace import trace
from .source.library import Loaded
from .source.usage import Usage

OUTPUTS = {"bi-encoder": "sentence_embedding", "cross-encoder": "score"}


def trace_for(target: Target, loaded: Loaded, usage: Usage, folder: Path) -> Path:
    """The file, in the new `folder`, of the FP32 graph from int64 ids to `sentence_embedding` [n, d] or `score` [n].

    A GPU's takes `attention_mask`; a CPU's does not, since each of its runs has sequences of one length.
    """
    folder.mkdir()
    if not usage.family.own_attention:
        traced_attention.register()
        loaded.network.set_attn_implementation(traced_attention.NAME)
    inputs = ["input_ids"]
    if target == "gpu":
        inputs.append("attention_mask")
    if usage.segments:
        inputs.append("token_type_ids")
    file = folder / "traced.onnx"
    trace(usage.network, tuple(inputs), OUTPUTS[loaded.kind], file)
    return file
