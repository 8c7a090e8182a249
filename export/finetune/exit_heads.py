"""Heads after earlier layers in training: each is a copy of what lies behind the network's layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..source.exits import load_head

READ = ("input_ids", "attention_mask", "token_type_ids")


class Replay(nn.Module):
    """Stands where the layers were, and gives the state that one of them gave.

    state: float [n, width, hidden]
    """

    def __init__(self, layer: nn.Module, form: int) -> None:
        """In the place of `layer`, which returns a tuple of `form` things, or the state alone where `form` is 0."""
        super().__init__()
        for name, value in vars(layer).items():  # what a network asks of its layers: ModernBERT's `attention_type`
            if isinstance(value, str | int) and not name.startswith("_"):
                setattr(self, name, value)
        self.form = form
        self.state: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The state, in the form of a layer's answer."""
        return (self.state, *[None] * (self.form - 1)) if self.form else self.state


class ExitHeads(nn.Module):
    """Scores of pairs by the states after the layers `exits` (1 is the first)."""

    def __init__(self, network: Any, stack: str, exits: tuple[int, ...]) -> None:
        """Each begins as the network's own."""
        super().__init__()
        self.stack = stack
        bare = _without_layers(network, stack)
        self.names = _behind(bare, stack)
        self.heads = nn.ModuleDict({str(layer): copy.deepcopy(bare) for layer in exits})
        own: list[Any] = list(self.heads.values())
        for head in own:
            for name, parameter in head.named_parameters():
                parameter.requires_grad_(name in self.names)
            head.set_input_embeddings(network.get_input_embeddings())  # not read, and large

    def take(self, former: Mapping[int, Mapping[str, Tensor]], folder: Path) -> None:
        """Go on from the `former` heads, which were read from `folder`; raises ExportError when one does not fit."""
        for layer, head in self.heads.items():
            load_head(head, former.get(int(layer), {}), folder)

    def forward(self, features: dict[str, Any]) -> Tensor:
        """float32 [exits, n]: the scores of `n` pairs, whose states are in `all_layer_embeddings`."""
        given = {name: features[name] for name in READ if name in features}
        scores = []
        for layer, head in self.heads.items():
            (replay,) = head.get_submodule(self.stack).children()
            replay.state = features["all_layer_embeddings"][int(layer)]
            scores.append(head(**given).logits[:, 0].float())
        return torch.stack(scores)

    def tensors(self) -> dict[str, Tensor]:
        """The heads' trained tensors as `exits.safetensors` names them."""
        return {
            f"{layer}.{name}": parameter.detach()
            for layer, head in self.heads.items()
            for name, parameter in head.named_parameters()
            if name in self.names
        }


def _without_layers(network: Any, stack: str) -> Any:
    """A copy of `network` with a `Replay` in the place of its layers."""
    layers = network.get_submodule(stack)
    forms: list[int] = []
    hook = layers[0].register_forward_hook(
        lambda layer, given, answer: forms.append(len(answer) if isinstance(answer, tuple) else 0)
    )
    with torch.no_grad():
        network(input_ids=torch.tensor([[1, 2, 3]]))
    hook.remove()
    network.set_submodule(stack, nn.ModuleList([Replay(layers[0], forms[0])]))
    try:
        return copy.deepcopy(network)
    finally:
        network.set_submodule(stack, layers)


def _behind(bare: Any, stack: str) -> frozenset[str]:
    """Names of the parameters that lie behind the layers: those that a gradient of the score reaches."""
    bare.get_submodule(stack)[0].state = torch.ones(1, 3, bare.config.hidden_size)
    names, parameters = zip(*bare.named_parameters(), strict=True)
    score = bare(input_ids=torch.tensor([[1, 2, 3]])).logits.sum()
    gradients = torch.autograd.grad(score, parameters, allow_unused=True)
    return frozenset(name for name, gradient in zip(names, gradients, strict=True) if gradient is not None)


def head_of(network: Any, stack: str) -> frozenset[str]:
    """Names of the parameters of `network` that lie behind its layers."""
    return _behind(_without_layers(network, stack), stack)
