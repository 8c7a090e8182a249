"""RoBERTa, XLM-R and CamemBERT: BERT whose positions begin behind the padding's id, with a head of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import bert
from .bert import backbone as backbone
from .shape import Config, Shape, missing

if TYPE_CHECKING:
    from .backbone import Score
    from .weights import Weights

ROOT = "roberta."


def shape_of(config: Config) -> Shape | str:
    """See `families.PackedFamily`."""
    if (problem := missing(config, ["pad_token_id"])) is not None:
        return problem
    shape = bert.shape_of(config)
    if isinstance(shape, str):
        return shape
    first: int = config["pad_token_id"] + 1
    return replace(shape, positions=shape.positions - first, first_position=first)


def score(weights: Weights, config: Config) -> Score:
    """See `families.PackedFamily`."""
    from .backbone import Score

    return Score(weights.row("classifier.out_proj"), "cls", weights.linear("classifier.dense", rooted=False), "tanh")
