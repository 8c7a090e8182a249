"""What the values of a repository's settings may be, so that a wrong one is named before a library stumbles over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from ...engine.errors import ExportError
from .files import read_json
from .wishes import Pooling

Values = Mapping[str, tuple[Callable[[Any], bool], str]]
"""Of a setting: whether a value is possible, and in words what is. Null is always possible: it means not set."""

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
POOLINGS: tuple[str, ...] = get_args(Pooling)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(text is None or isinstance(text, str) for text in value.values())


def _modes(value: Any) -> bool:
    modes = value if isinstance(value, list) else [value]
    return bool(modes) and all(isinstance(mode, str) and mode in POOLINGS for mode in modes)


def _of_torch(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("torch.")


def _sentence_embedding(value: Any) -> bool:
    return isinstance(value, str) and value == "sentence_embedding"


def _flow_out(value: Any) -> bool:
    return value in ("sentence_embedding", "scores")


_OBJECT = (_object, "an object of settings")
_TORCH = (_of_torch, "a class of PyTorch (torch.nn…), since other code is not run without --trust-remote-code")
SENTENCE: Values = {
    "max_seq_length": (_count, "a whole number of tokens"),
    "do_lower_case": (_flag, "true or false"),
    **dict.fromkeys(
        ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"), _OBJECT
    ),
    "modality_config": _OBJECT,
    "processing_kwargs": _OBJECT,
    "transformer_task": (_text, "text"),
}
MODEL_SETTINGS: Values = {
    "prompts": (_texts, "an object of texts by name"),
    "default_prompt_name": (_text, "the name of one of its prompts"),
    "similarity_fn_name": (lambda value: value in SIMILARITIES, f"one of {', '.join(SIMILARITIES)}"),
    "truncate_dim": (_count, "a whole number, how many numbers of a vector are kept"),
    "activation_fn": _TORCH,
}
POOLING: Values = {
    "pooling_mode": (_modes, f"one or several of {', '.join(POOLINGS)}"),
    "include_prompt": (_flag, "true or false"),
    "embedding_dimension": (_count, "a whole number"),
    "word_embedding_dimension": (_count, "a whole number"),
}
DENSE: Values = {
    "activation_function": _TORCH,
    "module_input_name": (_sentence_embedding, "sentence_embedding, the pooled vector"),
    "module_output_name": (_flow_out, "sentence_embedding or scores"),
}
CONFIG: Values = {
    "sentence_transformers": (
        lambda value: isinstance(value, dict) and _of_torch(value.get("activation_fn", "torch.")),
        "an object whose activation_fn is a class of PyTorch, since other code is not run without --trust-remote-code",
    ),
    "sbert_ce_default_activation_function": _TORCH,
}
"""What versions before 5.4 kept of a cross-encoder in config.json."""
TOKENIZER: Values = {"model_max_length": (_number, "a number of tokens")}
_CODE = frozenset(
    {"activation_fn", "activation_function", "sentence_transformers", "sbert_ce_default_activation_function"}
)


def check(folder: Path, name: str, values: Values, *, trusted: bool) -> None:
    """Raises ExportError when a setting in the file `folder/name` has a value that is none of `values`.

    trusted: functions of code that is not PyTorch's may be run
    """
    said = read_json(folder, name) or {}
    for setting, (possible, words) in values.items():
        value = said.get(setting)
        if value is None or possible(value) or (trusted and setting in _CODE):
            continue
        raise ExportError(f"{folder / name} sets {setting} to {value!r}; it must be {words}")
