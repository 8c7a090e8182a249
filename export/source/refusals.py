"""What a loaded model wants that no graph here does; and one text through it, so that nothing else is left to find."""

from __future__ import annotations

from typing import Any

import torch

from ...engine.errors import ExportError
from ..quiet import quiet
from .library import Loaded, reading
from .resolve import Origin

# Settings of a chat template that are about cutting and padding, and no variables of the template.
_SIZES = ("padding", "truncation", "max_length", "return_tensors")
# How sentence-transformers reads what a transformer gives: its task, and the outputs that go on.
_OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
    "text-generation": ("logits", "causal_logits"),
}


def refuse_settings(origin: Origin, loaded: Loaded) -> None:
    """Raises ExportError naming a setting of the transformer or the tokenizer that a graph has no place for."""
    transformer, tokenizer = loaded.transformer, loaded.tokenizer
    for name in ("query_length", "document_length", "query_expansion"):
        if getattr(transformer, name, None):
            raise ExportError(f"{origin.name} sets {name} for its Transformer, which is not supported")
    _refuse_processing(origin, loaded)
    _refuse_outputs(origin, loaded)
    if tokenizer.pad_token_id is None:
        raise ExportError(f"{origin.name}'s tokenizer has no padding token (pad_token), which batches need")
    if loaded.kind == "cross-encoder" and getattr(loaded.network.config, "is_encoder_decoder", False):
        raise ExportError(f"{origin.name} is an encoder with a decoder, which is not supported as a cross-encoder")
    _refuse_ids(origin, loaded)


def _refuse_processing(origin: Origin, loaded: Loaded) -> None:
    """Of what is said to the tokenizer at each call, a chat template's own variables can be honoured."""
    said = loaded.transformer.processing_kwargs or {}
    template = said.get("chat_template", {})
    extra = [name for name in said if name != "chat_template"] + [name for name in template if name in _SIZES]
    if template and (loaded.kind == "bi-encoder" or template.get("restore_suffix", True) is not True):
        extra.append("chat_template")
    if extra:
        raise ExportError(
            f"{origin.name} sets processing_kwargs ({', '.join(extra)}) for its Transformer, which is not supported"
        )


def _refuse_outputs(origin: Origin, loaded: Loaded) -> None:
    transformer = loaded.transformer
    modalities = transformer.modality_config
    if "text" not in modalities:
        others = ", ".join(map(str, modalities)) or "nothing"
        raise ExportError(f"{origin.name} reads {others}; models of text are supported")
    if loaded.kind == "bi-encoder" and "message" in modalities:
        raise ExportError(
            f"{origin.name} has a chat template, into which sentence-transformers puts every text of a bi-encoder; "
            "that is not supported; take the template out (chat_template) where texts are read as they are"
        )
    output, name = _OUTPUTS.get(transformer.transformer_task, ("", ""))
    for way in ("text", "message"):
        said = modalities.get(way, {"method": "forward", "method_output_name": output})
        if (said["method"], said["method_output_name"]) != ("forward", output):
            raise ExportError(
                f"{origin.name} takes {said['method_output_name']} of its transformer's {said['method']} "
                f"(modality_config, {transformer.transformer_task}); supported is {output or 'no such task'} of forward"
            )
    if transformer.module_output_name != name:
        raise ExportError(
            f"{origin.name} passes on {transformer.module_output_name} (module_output_name of its Transformer); "
            f"supported is {name}"
        )


def _refuse_ids(origin: Origin, loaded: Loaded) -> None:
    """Ids that the model has no embeddings for."""
    table = loaded.network.get_input_embeddings().weight.shape[0]
    # Special tokens beyond: Gemma's tokenizer has marks of images and sounds, for models with more embeddings.
    special = {row for row, token in loaded.tokenizer.added_tokens_decoder.items() if token.special}
    ids = [row for row in loaded.tokenizer.get_vocab().values() if row not in special]
    largest = max(ids, default=0)
    if largest >= table:
        raise ExportError(
            f"{origin.name}'s tokenizer has ids up to {largest}, and the model has embeddings for {table}; a text with "
            "one of the others could not be read"
        )
    kinds = int(getattr(loaded.network.config, "type_vocab_size", 0) or 0)
    names = loaded.tokenizer.model_input_names
    if loaded.kind == "cross-encoder" and kinds == 1 and "token_type_ids" in names:
        segments = loaded.tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"]
        if max(segments) >= kinds:
            raise ExportError(
                f"{origin.name}'s tokenizer marks a passage as the second segment, and the model has embeddings for "
                "one (type_vocab_size in config.json)"
            )


def try_once(origin: Origin, loaded: Loaded, network: torch.nn.Module, dimension: int | None) -> None:
    """Score or embed one text with the library and with `network`.

    dimension: numbers of a bi-encoder's vector

    Raises ExportError when one of them cannot, or when the vector has other than `dimension` numbers.
    """
    with quiet(), torch.inference_mode():
        reading(origin, lambda: _by_library(loaded))
        ids = torch.tensor([loaded.tokenizer("a text")["input_ids"]])
        found = reading(origin, lambda: network(input_ids=ids))
    if dimension is not None and found.shape != (1, dimension):
        raise ExportError(
            f"{origin.name} says that its vectors have {dimension} numbers (config.json of its last module), and they "
            f"have {found.shape[-1]}"
        )


def _by_library(loaded: Loaded) -> Any:
    if loaded.kind == "bi-encoder":
        return loaded.library.encode("a text")
    return loaded.library.predict([("a text", "another")])
