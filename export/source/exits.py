"""Early exits of a reranker on disk: for each exit its layer's own head, in `exits.safetensors`.

A head is what lies behind a network's layers (BERT: pooler and classifier; ModernBERT: final norm, head, classifier). A
tensor's name is `<layer>.<its name in the network>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...engine.errors import ExportError

EXITS = "exits.safetensors"
# Names in files that were written when only BERT could be trained.
_FORMER = {"dense.": "bert.pooler.dense.", "out.": "classifier."}


def stack_of(network: Any) -> str | None:
    """The name of the list that holds the layers of `network`; None where its layers share weights, as ALBERT's do."""
    layers = network.config.num_hidden_layers
    lists = [name for name, each in network.named_modules() if isinstance(each, nn.ModuleList) and len(each) == layers]
    return min(lists, key=lambda name: name.count(".")) if lists else None


def read_heads(folder: Path) -> dict[int, dict[str, Tensor]]:
    """float32 tensors of each exit's head by layer (1 is the first), in rising order; none without the file.

    Raises ExportError when the file is damaged.
    """
    if not (folder / EXITS).is_file():
        return {}
    heads: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in load_file(folder / EXITS).items():
            layer, _, rest = name.partition(".")
            former = next((prefix for prefix in _FORMER if rest.startswith(prefix)), None)
            rest = rest if former is None else _FORMER[former] + rest.removeprefix(former)
            heads.setdefault(int(layer), {})[rest] = tensor.float()
    except (SafetensorError, OSError, ValueError) as error:
        raise ExportError(f"{folder / EXITS} is damaged ({error}); copy or train the adapter again") from error
    return dict(sorted(heads.items()))


def cut(network: Any, layer: int, folder: Path) -> None:
    """Make of `network` what lies before its exit after `layer`, with the exit's head from `folder` behind it.

    Raises ExportError when there is no exit after that layer, or when its head does not fit.
    """
    heads = read_heads(folder)
    if layer not in heads:
        have = ", ".join(map(str, heads)) or "none"
        raise ExportError(f"{folder / EXITS} has no exit after layer {layer}; its exits are after layers: {have}")
    stack = stack_of(network)
    if stack is None:
        raise ExportError(f"{folder / EXITS} does not fit: the layers of a {network.config.model_type} cannot be cut")
    network.set_submodule(stack, nn.ModuleList(list(network.get_submodule(stack))[:layer]))
    network.config.num_hidden_layers = layer
    if getattr(network.config, "layer_types", None):
        network.config.layer_types = network.config.layer_types[:layer]
    load_head(network, heads[layer], folder)


def load_head(network: nn.Module, head: Mapping[str, Tensor], folder: Path) -> None:
    """Put an exit's head into `network`; raises ExportError when a tensor is of another name or shape."""
    own = dict(network.named_parameters())
    for name, tensor in head.items():
        if name not in own or own[name].shape != tensor.shape:
            have = tuple(own[name].shape) if name in own else "absent"
            raise ExportError(
                f"{folder / EXITS} does not fit the model: {name} is {tuple(tensor.shape)} in it and {have} there"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
