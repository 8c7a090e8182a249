"""An adapter as it is served, with its exits: the final measurement runs files, not what is in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...engine.errors import ExportError
from .adapter import EXITS, load_merged
from .model import Head
from .precision import compute_dtype


class Scorer(nn.Module):
    """Scores after the adapter's exits and after the last layer, in inference mode only."""

    def __init__(self, base: Path, adapter: Path, dtype: torch.dtype | None = None) -> None:
        """`dtype` None: `compute_dtype`. Raises ExportError as `load_merged` does, or when exit heads do not fit."""
        super().__init__()
        merged = load_merged(base, adapter)
        self.exit_heads = load_exits(adapter, merged.config.hidden_size)
        self.exits = tuple(int(layer) for layer in self.exit_heads)
        self.pooler = merged.bert.pooler
        self.classifier = merged.classifier
        self.bert = merged.bert
        self.bert.pooler = None
        self.layers: int = merged.config.num_hidden_layers
        self.bert.to(dtype or compute_dtype())
        self.eval().requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """float32 [exits + 1, n]: scores of `n` padded pairs (int64 [n, width])."""
        states = self.bert(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True
        ).hidden_states
        scores = [self.exit_heads[str(layer)](states[layer][:, 0].float()) for layer in self.exits]
        last = self.classifier(self.pooler(states[-1].float())).squeeze(-1)
        return torch.stack([*scores, last])


def load_exits(adapter: Path, hidden: int) -> nn.ModuleDict:
    """The exit heads by layer, in rising order; empty for an adapter without `exits.safetensors`.

    Raises ExportError when the file is damaged or of another hidden size.
    """
    heads = nn.ModuleDict()
    if not (adapter / EXITS).is_file():
        return heads
    try:
        tensors = load_file(adapter / EXITS)
        for layer in sorted({int(name.split(".")[0]) for name in tensors}):
            head = Head(hidden, torch.Generator())
            own = {name.split(".", 1)[1]: t.float() for name, t in tensors.items() if name.startswith(f"{layer}.")}
            head.load_state_dict(own)
            heads[str(layer)] = head
    except (SafetensorError, OSError, ValueError, RuntimeError, IndexError) as error:
        raise ExportError(f"{adapter / EXITS} does not fit or is damaged ({error}); train the adapter again") from error
    return heads
