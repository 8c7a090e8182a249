"""Graphs as a user without Tandem makes them: PyTorch's exporter as it comes, and ONNX Runtime's dynamic INT8 of it.

With hidden states or logits at the end and a mask at the beginning, which is what other libraries serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..engine.models.artifact import Artifact, Precision
from ..export.quiet import quiet


def plain_graph(artifact: Artifact, folder: Path, file: Path, precision: Precision = "fp32") -> None:
    """Write the graph of the model in `folder`, whose weights are the artifact's, to `file`.

    int64 `input_ids`, `attention_mask` (and `token_type_ids`), each [batch, length], to `last_hidden_state` [batch,
    length, width] or `logits` [batch, labels]. Raises ImportError without the exporter, ExportError when it fails.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    from ..export.graph.graph_file import save_graph
    from ..export.graph.trace import trace

    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if artifact.manifest.segments else [])]
    output = "last_hidden_state" if artifact.manifest.kind == "bi-encoder" else "logits"
    file.parent.mkdir(parents=True, exist_ok=True)
    traced = file.with_name(f"traced-{file.name}")
    trace(_network(artifact, folder), tuple(inputs), output, traced)
    model = onnx.load(traced)
    for part in file.parent.glob(f"{traced.name}*"):
        part.unlink()
    save_graph(model, file)
    if precision == "int8":
        with quiet():
            quantize_dynamic(file, file)


def _network(artifact: Artifact, folder: Path) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    door = AutoModel if artifact.manifest.kind == "bi-encoder" else AutoModelForSequenceClassification
    with quiet():
        model = door.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            output = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
            found: torch.Tensor = output.logits if hasattr(output, "logits") else output.last_hidden_state
            return found

    return Plain()


def pytorch_forward(artifact: Artifact, folder: Path, threads: int) -> Callable[[Mapping[str, Any]], Any]:
    """The model in `folder` in PyTorch, as sentence-transformers runs it: int64 arrays by their names → its output."""
    import torch

    network = _network(artifact, folder)
    torch.set_num_threads(threads)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if artifact.manifest.segments else [])]

    def forward(feeds: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            return network(**{name: torch.from_numpy(feeds[name]) for name in names})

    return forward
