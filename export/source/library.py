"""A model as sentence-transformers loads it: the one reader of its files, and the reference of every export.

Which modules it has, how it pools, how long a text may be, what is put before it: all that is read off the library's
objects, so that what is exported and what users compare with are one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoConfig

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..quiet import quiet
from .files import read_json
from .known_settings import refuse_unknown
from .layout import CLASSES, MODEL, counted_modules, said_class, transformer_folder
from .missing_weights import refuse_missing
from .resolve import Origin
from .wishes import Wishes

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The library's model, FP32, on the CPU, for inference."""

    library: Any
    kind: Kind

    @property
    def transformer(self) -> Any:
        """The library's Transformer module."""
        return self.library[0]

    @property
    def rest(self) -> list[Any]:
        """The modules behind it."""
        return list(self.library)[1:]

    @property
    def network(self) -> Any:
        """The model of transformers inside."""
        return self.transformer.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        return self.library.tokenizer


def load(origin: Origin, kind: Kind, wishes: Wishes) -> Loaded:
    """The model in `origin` with a caller's `wishes`.

    Raises ExportError when its files cannot be read, when weights miss or do not fit, or when a setting in them cannot
    be honoured.
    """
    _refuse_wishes(kind, wishes)
    _refuse_other_class(origin, kind)
    folder = transformer_folder(origin.folder, kind)
    refuse_unknown(origin.folder, folder, kind, trusted=origin.trusted)
    for name in TOKENIZER_FILES:  # a damaged one would be told as an unknown kind of model
        read_json(folder, name)
    with quiet():
        config = reading(origin, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=origin.trusted))
        _refuse_other_kind(origin, kind, config)
        reading(origin, lambda: refuse_missing(origin, kind, folder, config))
        if kind == "bi-encoder":
            model = reading(origin, lambda: _bi_encoder(origin, folder, wishes))
        else:
            model = reading(origin, lambda: CrossEncoder(str(origin.folder), **_arguments(origin)))
        model.float().eval()
    loaded = Loaded(model, kind)
    if not isinstance(loaded.transformer, Transformer):
        raise ExportError(
            f"{origin.name} reads texts with its own class {type(loaded.transformer).__name__}; only "
            "sentence-transformers' Transformer is supported"
        )
    _refuse_no_tokenizer(origin, folder, loaded.tokenizer)
    return loaded


def _refuse_no_tokenizer(origin: Origin, folder: Path, tokenizer: Any) -> None:
    """Without a vocabulary transformers makes an empty tokenizer, for which every word is an unknown one."""
    if tokenizer is None or not getattr(tokenizer, "is_fast", False):
        raise ExportError(f"{origin.name} has no tokenizer.json and none can be made from its files")
    names = {*tokenizer.vocab_files_names.values(), "tokenizer.json", "vocab.txt", "vocab.json"}
    if not any((folder / name).is_file() for name in names) and not any(folder.glob("*.model")):
        raise ExportError(
            f"{folder} has no tokenizer ({', '.join(sorted(names))} or a *.model); take a complete copy of the model"
        )


def reading(origin: Origin, reader: Callable[[], Any]) -> Any:
    """What `reader` returns. Raises ExportError with the reason when a library cannot read the files of `origin`."""
    try:
        return reader()
    except ExportError:
        raise
    except (Exception, SystemExit) as error:  # transformers, safetensors and torch raise what they like on such files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{origin.name} cannot be loaded ({reason}); check that its files are complete and of one model"
        ) from error


def _arguments(origin: Origin) -> dict[str, Any]:
    return {
        "device": "cpu",
        "local_files_only": True,
        "trust_remote_code": origin.trusted,
        "model_kwargs": {"dtype": torch.float32},
    }


def _bi_encoder(origin: Origin, folder: Path, wishes: Wishes) -> SentenceTransformer:
    dimensions = {"truncate_dim": wishes.dimensions} if wishes.dimensions is not None else {}
    if counted_modules(origin.folder, "bi-encoder") is not None:
        if wishes.pooling is not None:
            raise ExportError(f"{origin.name} says itself how it pools (modules.json); leave --pooling out")
        return SentenceTransformer(str(origin.folder), **_arguments(origin), **dimensions)
    if (origin.folder / MODEL).is_file():
        raise ExportError(
            f"{origin.name} has {MODEL} but no modules.json, without which it is not read; take a complete copy of the "
            f"model, or take {MODEL} away and say --pooling, and prompts where it has some"
        )
    if wishes.pooling is None:
        raise ExportError(
            f"{origin.name} has no modules.json, so nothing says how it pools; say it with --pooling mean, cls or "
            "lasttoken (its card tells which)"
        )
    arguments = _arguments(origin)
    shared = {"local_files_only": True, "trust_remote_code": origin.trusted}
    transformer = Transformer(
        str(folder), model_kwargs={**arguments["model_kwargs"], **shared}, processor_kwargs=dict(shared),
        config_kwargs=dict(shared),
    )  # fmt: skip
    pooling = Pooling(transformer.get_embedding_dimension(), wishes.pooling)
    return SentenceTransformer(modules=[transformer, pooling], device="cpu", **dimensions)


def _refuse_wishes(kind: Kind, wishes: Wishes) -> None:
    """What a cross-encoder has no use for is not dropped in silence."""
    if kind == "bi-encoder":
        if wishes.dimensions is not None and wishes.dimensions < 1:
            raise ExportError(f"--dimensions {wishes.dimensions} leaves nothing of a vector; give a number from 1 on")
        return
    if wishes.passage_prompt is not None:
        raise ExportError("a cross-encoder puts its prompt before the query; leave --passage-prompt out")
    for option, value in (("--pooling", wishes.pooling), ("--dimensions", wishes.dimensions)):
        if value is not None:
            raise ExportError(f"a cross-encoder gives a score and no vector; leave {option} out")


def _refuse_other_class(origin: Origin, kind: Kind) -> None:
    said = said_class(origin.folder)
    if not isinstance(said, str) or said not in CLASSES.values():
        raise ExportError(
            f"{origin.name} is a {said} of sentence-transformers (model_type in {MODEL}); supported are "
            f"{' and '.join(CLASSES.values())}"
        )
    # An old bi-encoder does not say what it is, and neither does what was left of one beside a cross-encoder.
    explicit = (read_json(origin.folder, MODEL) or {}).get("model_type")
    if explicit is not None and explicit != CLASSES[kind]:
        other = next(name for name, value in CLASSES.items() if value == said)
        raise ExportError(f"{origin.name} is a {other} ({said} in {MODEL}); export it with --as {other}")
    if explicit == CLASSES["cross-encoder"] and not (origin.folder / "modules.json").is_file():
        raise ExportError(
            f"{origin.name} has {MODEL} but no modules.json, without which it is not read; take a complete copy of the "
            f"model, or take {MODEL} away"
        )


def _refuse_other_kind(origin: Origin, kind: Kind, config: Any) -> None:
    built = str((getattr(config, "architectures", None) or [""])[0])
    if counted_modules(origin.folder, kind) is not None:
        return
    if kind == "bi-encoder" and built.endswith("ForSequenceClassification"):
        raise ExportError(f"{origin.name} is a cross-encoder ({built}); export it with --as cross-encoder")
    if kind == "cross-encoder" and built and not built.endswith(("ForSequenceClassification", "ForCausalLM")):
        raise ExportError(
            f"{origin.name} has no head that gives scores ({built}), so it is no cross-encoder; export it with --as "
            "bi-encoder, or give the adapter that makes it one (--adapter)"
        )
