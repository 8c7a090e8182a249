"""What a repository says it is built of, and in which folder of it the transformer lies.

sentence-transformers starts from `modules.json`, but only where that was written for the kind of model that is asked
for: a cross-encoder that was trained from a bi-encoder may still have the files of its ancestor, which count for
nothing.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from .files import read_json, read_list

MODULES = "modules.json"
MODEL = "config_sentence_transformers.json"
SENTENCE_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""In sentence-transformers' order: the first that exists and says something counts."""
CLASSES: dict[Kind, str] = {"bi-encoder": "SentenceTransformer", "cross-encoder": "CrossEncoder"}
"""sentence-transformers' names of our kinds, as `model_type` has them."""


def said_class(folder: Path) -> Any:
    """What `config_sentence_transformers.json` calls the model; files before version 5 do not say it."""
    return (read_json(folder, MODEL) or {}).get("model_type", CLASSES["bi-encoder"])


def counted_modules(folder: Path, kind: Kind) -> list[dict[str, Any]] | None:
    """The modules that a model of this kind is built of; None where it is a transformer alone.

    Raises ExportError when one of them lies outside `folder`.
    """
    modules = read_list(folder, MODULES)
    if modules is None or said_class(folder) != CLASSES[kind]:
        return None
    for module in modules:
        path = PurePosixPath(str(module.get("path", "")))
        if path.is_absolute() or ".." in path.parts:
            raise ExportError(f"{folder / MODULES} names a folder outside the model ({path}); it is not read")
    return modules


def last_name(module: dict[str, Any]) -> str:
    """A module's kind: only the last name of its type means anything, since the names before it have changed."""
    return str(module.get("type", "")).rsplit(".", maxsplit=1)[-1]


def module_folder(folder: Path, module: dict[str, Any]) -> Path:
    """Where a module's own files are."""
    return folder / PurePosixPath(str(module.get("path", "")))


def transformer_folder(folder: Path, kind: Kind) -> Path:
    """Where config.json, weights and tokenizer are: `folder` itself, or the first module's folder."""
    modules = counted_modules(folder, kind)
    first = module_folder(folder, modules[0]) if modules else folder
    return first if (first / "config.json").is_file() else folder


def sentence_config(transformer: Path) -> str | None:
    """The name of the file beside a transformer that says its length and more; None where there is none."""
    return next((name for name in SENTENCE_CONFIGS if read_json(transformer, name)), None)
