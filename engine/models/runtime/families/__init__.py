"""The models that the packed runtime knows, a file a family; importing this needs no PyTorch.

shape.py                what of a config.json the runtime must know, and what it does not know
bert.py  roberta.py     names of the weights, settings that are honoured
modernbert.py  qwen3.py
weights.py  buffers.py  tensors of a file, and memory for activations
post_norm.py            the layers of BERT and RoBERTa
pre_norm.py             the layers of ModernBERT and Qwen3
backbone.py             what a family gives: its layers, and a head of one logit
model.py                layers, pooling and score as one model
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from . import bert, modernbert, qwen3, roberta
from .shape import HEAD_WIDTHS, Config, Shape

if TYPE_CHECKING:
    from .backbone import Backbone, Score
    from .weights import Weights

__all__ = ["FAMILIES", "HEAD_WIDTHS", "Config", "PackedFamily", "Shape", "score_problem", "shape_of"]


class PackedFamily(Protocol):
    """What a family's file says."""

    ROOT: str
    """What the names of the weights begin with, where a model has a head; without one it may be missing."""

    def shape_of(self, config: Config, /) -> Shape | str:
        """Its sizes, or in words what the packed runtime does not honour."""
        ...

    def backbone(self, weights: Weights, shape: Shape, /) -> Backbone:
        """Its layers. Raises KeyError naming a tensor that is missing."""
        ...

    def score(self, weights: Weights, config: Config, /) -> Score:
        """Its head of one logit. Raises KeyError likewise."""
        ...


FAMILIES: MappingProxyType[str, PackedFamily] = MappingProxyType(
    {
        "bert": bert,
        "roberta": roberta,
        "xlm-roberta": roberta,
        "camembert": roberta,
        "modernbert": modernbert,
        "qwen3": qwen3,
    }
)
"""By the `model_type` of a config.json."""


def score_problem(config: Config) -> str | None:
    """Why the packed runtime does not know the head of a cross-encoder, in words; None where it does."""
    kind = (config.get("architectures") or ["nothing"])[0]
    if kind.endswith("ForSequenceClassification"):
        return None
    return f"its config.json names {kind} (architectures), and the packed runtime scores as ForSequenceClassification"


def shape_of(config: Config) -> Shape | str:
    """The sizes of the model that a `config.json` describes, or why the packed runtime does not run it, in words."""
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        return f"its family is {kind}, and the packed runtime knows {', '.join(FAMILIES)}"
    if "auto_map" in config:
        return "its config.json names code of its own (auto_map)"
    shape = FAMILIES[kind].shape_of(config)
    return shape if isinstance(shape, str) else shape.problem or shape
