"""The reranker up to an early exit: its first layers, and that exit's head in place of pooler and classifier."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import BertForSequenceClassification, PreTrainedModel

from ...engine.errors import ExportError
from ..quiet import quiet
from .adapter import EXITS, load_merged
from .scorer import load_exits


def load_early(base: Path, adapter: Path, layer: int) -> PreTrainedModel:
    """BertForSequenceClassification of `layer` layers, float32, in eval mode; its logit is that of the exit there.

    Raises ExportError as `load_merged` does, and when the adapter has no exit after that layer.
    """
    merged = load_merged(base, adapter)
    heads = load_exits(adapter, merged.config.hidden_size)
    if str(layer) not in heads:
        have = ", ".join(heads) or "none"
        raise ExportError(f"{adapter / EXITS} has no exit after layer {layer}; its exits are after layers: {have}")
    config = copy.deepcopy(merged.config)
    config.num_hidden_layers = layer
    with quiet():
        early = BertForSequenceClassification(config)
    wanted = early.state_dict().keys()
    head = {
        f"{place}.{part}": tensor
        for name, place in (("dense", "bert.pooler.dense"), ("out", "classifier"))
        for part, tensor in heads[str(layer)].get_submodule(name).state_dict().items()
    }
    early.load_state_dict({name: tensor for name, tensor in merged.state_dict().items() if name in wanted} | head)
    return early.to(torch.float32).eval()
