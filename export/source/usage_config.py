"""How a model wants to be used, read from its own files; nothing is guessed from its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind, Prompts
from .resolve import Origin, read_json, read_list

FAMILIES = ("bert", "xlm-roberta", "modernbert")
# The names under which sentence-transformers' encode_document looks for a passage's prompt, in its order.
PASSAGE_PROMPTS = ("document", "passage", "corpus")
MODULES = "sentence_transformers.models."
NO_PROMPTS = Prompts()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the manifest says of a model's use, except what only its loaded tokenizer knows."""

    family: str
    max_length: int
    pooling: Literal["mean", "cls"] | None = None
    normalize: bool = True
    prompts: Prompts = NO_PROMPTS
    activation: Literal["identity", "sigmoid"] = "identity"


def read(origin: Origin, kind: Kind) -> Reading:
    """Read the settings of a model; raises ExportError for a family, head or module that is not supported."""
    config = read_json(origin.folder, "config.json") or {}
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ExportError(f"{origin.name} is of the family {family!r}; supported are {', '.join(FAMILIES)}")
    length = _max_length(origin, config)
    if kind == "cross-encoder":
        # An adapter brings the one-label head; a base's configuration does not speak of it.
        activation = "identity" if origin.adapter is not None else _activation(origin, config)
        return Reading(family, length, activation=activation)
    return _bi_encoder(origin, family, length)


def _max_length(origin: Origin, config: dict[str, Any]) -> int:
    """The smallest of what positions, tokenizer and sentence-transformers allow."""
    positions = int(config["max_position_embeddings"])
    if config["model_type"] == "xlm-roberta":
        positions -= int(config.get("pad_token_id", 1)) + 1  # positions are counted from pad_token_id + 1
    tokenizer = (read_json(origin.folder, "tokenizer_config.json") or {}).get("model_max_length")
    sentence = (read_json(origin.folder, "sentence_bert_config.json") or {}).get("max_seq_length")
    return int(min(positions, *(limit for limit in (tokenizer, sentence) if limit is not None)))


def _bi_encoder(origin: Origin, family: str, length: int) -> Reading:
    modules = read_list(origin.folder, "modules.json")
    if modules is None:
        raise ExportError(
            f"{origin.name} has no modules.json, so nothing says how it pools; save it with sentence-transformers first"
        )
    kinds = [str(module.get("type", "")).removeprefix(MODULES) for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ExportError(
            f"{origin.name} is built of {' → '.join(kinds)}; "
            "only Transformer → Pooling, with or without Normalize, is supported"
        )
    _refuse_lowercasing(origin)
    settings = read_json(origin.folder, "config_sentence_transformers.json") or {}
    prompts = _prompts(settings)
    pooling = _pooling(origin, str(modules[1].get("path", "")), prompts)
    # A model compared by cosine is one whose vectors may be normalised; sentence-transformers' default is the cosine.
    normalize = "Normalize" in kinds or settings.get("similarity_fn_name") in (None, "cosine")
    return Reading(family, length, pooling, normalize, prompts)


def _refuse_lowercasing(origin: Origin) -> None:
    """sentence-transformers can lower-case texts before the tokenizer does; ours reads them as they are."""
    sentence = read_json(origin.folder, "sentence_bert_config.json") or {}
    tokenizer = read_json(origin.folder, "tokenizer_config.json") or {}
    if sentence.get("do_lower_case") and not tokenizer.get("do_lower_case"):
        raise ExportError(
            f"{origin.name} lower-cases outside its tokenizer (do_lower_case in sentence_bert_config.json), "
            "which is not supported"
        )


def _pooling(origin: Origin, path: str, prompts: Prompts) -> Literal["mean", "cls"]:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ExportError(f"{origin.name} keeps its pooling outside its own folder ({path}); it is not read")
    name = f"{path}/config.json"
    config = read_json(origin.folder, name)
    if config is None:
        raise ExportError(f"{origin.folder / name} is missing, so nothing says how {origin.name} pools")
    chosen = sorted(
        key.removeprefix("pooling_mode_")
        for key, on in config.items()
        if key.startswith("pooling_mode_") and on is True
    )
    if chosen == ["mean_tokens"]:
        mode: Literal["mean", "cls"] = "mean"
    elif chosen == ["cls_token"]:
        mode = "cls"
    else:
        raise ExportError(
            f"{origin.name} pools by {' and '.join(chosen) or 'nothing known'}; supported are mean and cls"
        )
    if mode == "mean" and config.get("include_prompt") is False and prompts != NO_PROMPTS:
        raise ExportError(
            f"{origin.name} leaves its prompt out of the mean (include_prompt: false), which is not supported"
        )
    return mode


def _prompts(settings: dict[str, Any]) -> Prompts:
    named = settings.get("prompts") or {}
    default = named.get(settings.get("default_prompt_name")) or ""
    passage = next((named[name] for name in PASSAGE_PROMPTS if name in named), default)
    return Prompts(query=named.get("query", default), passage=passage)


def _activation(origin: Origin, config: dict[str, Any]) -> Literal["identity", "sigmoid"]:
    labels = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 2)
    if labels != 1:
        raise ExportError(f"{origin.name} answers with {labels} labels; a cross-encoder for ranking has one")
    ours = config.get("sentence_transformers") or {}
    name = ours.get("activation_fn") or config.get("sbert_ce_default_activation_function") or "Sigmoid"
    match str(name).rsplit(".", maxsplit=1)[-1]:
        case "Identity":
            return "identity"
        case "Sigmoid":  # also sentence-transformers' choice for one label when a config names none
            return "sigmoid"
        case other:
            raise ExportError(f"{origin.name} ends in the activation {other}; supported are Identity and Sigmoid")
