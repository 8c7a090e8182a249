"""Every setting in a repository's sentence-transformers files is honoured, or the export is refused and names it.

The files are read by sentence-transformers itself; here is only what it knows, and what of that a graph has no place
for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from .files import read_json
from .layout import MODEL, MODULES, counted_modules, last_name, module_folder, sentence_config
from .setting_values import CONFIG, DENSE, MODEL_SETTINGS, POOLING, SENTENCE, TOKENIZER, check

_TRANSFORMER = frozenset(
    {
        "max_seq_length", "do_lower_case", "model_args", "model_kwargs", "tokenizer_args", "processor_kwargs",
        "config_args", "config_kwargs", "transformer_task", "modality_config", "module_output_name",
        "processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion",
    }
)  # fmt: skip
_MODEL = frozenset(
    {
        "__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim",
        "activation_fn", "keep_in_fp32_modules", "requirements",
    }
)  # fmt: skip
_POOLING = frozenset(
    {
        "word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode",
        *(f"pooling_mode_{mode}" for mode in (
            "cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken",
        )),
    }
)  # fmt: skip
_DENSE = frozenset(
    {
        "in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name",
        "use_residual",
    }
)  # fmt: skip
_OF_MODULE: dict[str, frozenset[str]] = {
    "Pooling": _POOLING,
    "Dense": _DENSE,
    "Normalize": frozenset({"module_input_name", "module_output_name"}),
    "LayerNorm": frozenset({"dimension"}),
    "LogitScore": frozenset({"true_token_id", "false_token_id", "module_input_name"}),
    "Dropout": frozenset({"dropout"}),
}
# Modules that are nothing without their settings.
_CONFIGURED = frozenset({"Pooling", "Dense", "LayerNorm", "LogitScore"})


def refuse_unknown(folder: Path, transformer: Path, kind: Kind, *, trusted: bool) -> None:
    """Raises ExportError for a module or a setting that is not known or has no possible value, naming both.

    trusted: activation functions and modules of the repository's own code may be run
    """
    modules = counted_modules(folder, kind)
    check(transformer, "tokenizer_config.json", TOKENIZER, trusted=trusted)
    if kind == "cross-encoder" and (modules is None or "activation_fn" not in (read_json(folder, MODEL) or {})):
        check(transformer, "config.json", CONFIG, trusted=trusted)
    if modules is None:
        return
    _refuse_modules(folder, modules, trusted=trusted)
    _refuse(folder, MODEL, _MODEL)
    check(folder, MODEL, MODEL_SETTINGS, trusted=trusted)
    _check_default_prompt(folder)
    present = sentence_config(transformer)
    if present is not None:
        _refuse(transformer, present, _TRANSFORMER)
        check(transformer, present, SENTENCE, trusted=trusted)
        said = read_json(transformer, present) or {}
        for name in ("tokenizer_args", "processor_kwargs"):
            _check_length(transformer / present, name, said.get(name) or {})


def _refuse_modules(folder: Path, modules: list[dict[str, Any]], *, trusted: bool) -> None:
    names = [last_name(module) for module in modules]
    if not names or names[0] != "Transformer":
        raise ExportError(
            f"{folder / MODULES} has {' → '.join(names) or 'no modules'}; only models with a Transformer first are "
            "supported"
        )
    for module in modules:
        said = str(module.get("type", ""))
        if not said.startswith("sentence_transformers.") and not trusted:
            raise ExportError(
                f"{folder / MODULES} names a module of the model's own Python code ({said}), which is not run; if you "
                "trust its authors, export with --trust-remote-code"
            )
    for name, module in zip(names[1:], modules[1:], strict=True):
        if name not in _OF_MODULE:
            known = ", ".join(_OF_MODULE)
            raise ExportError(f"{folder / MODULES} has a module {name}, which no graph here has; supported are {known}")
        place = module_folder(folder, module)
        if name in _CONFIGURED and not (place / "config.json").is_file():
            raise ExportError(f"{place / 'config.json'} of the {name} is missing; take a complete copy of the model")
        _refuse(place, "config.json", _OF_MODULE[name])
        values = {"Pooling": POOLING, "Dense": DENSE, "Normalize": DENSE}.get(name, {})
        check(place, "config.json", values, trusted=trusted)


def _refuse(folder: Path, name: str, known: Iterable[str]) -> None:
    unknown = sorted(set(read_json(folder, name) or {}) - set(known))
    if unknown:
        raise ExportError(
            f"{folder / name} sets {unknown[0]}, which is not known here, so it cannot be honoured; take it out if it "
            "changes nothing"
        )


def _check_default_prompt(folder: Path) -> None:
    said = read_json(folder, MODEL) or {}
    name, prompts = said.get("default_prompt_name"), said.get("prompts") or {}
    if name is not None and name not in prompts:
        raise ExportError(
            f"{folder / MODEL} has the default_prompt_name {name!r}, but prompts has only "
            f"{', '.join(map(repr, prompts)) or 'none'}; correct one of the two"
        )


def _check_length(file: Path, name: str, said: dict[str, Any]) -> None:
    length = said.get("model_max_length")
    test, words = TOKENIZER["model_max_length"]
    if length is not None and not test(length):
        raise ExportError(f"{file} sets model_max_length in {name} to {length!r}; it must be {words}")
