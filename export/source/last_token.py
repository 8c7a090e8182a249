"""A decoder that scores by rows of its vocabulary, saved as transformers' classifier of one label: the same score."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..quiet import quiet
from .network import LastTokenScorer


def as_classifier(model: Any, network: torch.nn.Module) -> Any:
    """What of `model` an artifact keeps: a classifier of one row where `network` scores the last token, else `model`.

    The vocabulary's other rows score nothing, and whoever runs the weights by themselves, as the packed runtime does,
    finds the row by transformers' name. A family without such a class, or rows with a bias, stay as they are.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    if not isinstance(network, LastTokenScorer) or bool(network.bias.any()):
        return model
    config = copy.deepcopy(model.config)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return model
    config.num_labels = 1
    with quiet(), torch.device("meta"):
        classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config)
    setattr(classifier, classifier.base_model_prefix, network.body)
    classifier.score.weight = network.rows
    return classifier
