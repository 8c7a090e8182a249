"""How a model wants to be used: the manifest's settings, read off the library's objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch

from ...engine.errors import ExportError
from ...engine.models.artifact import LONGEST
from ...engine.text.prompting import PairText, Prompts
from ...engine.text.tokens import CutSide
from ..families import FAMILIES, Family
from .card_prompts import card_prompts
from .library import Loaded
from .network import Classifier, Embedder, LastTokenScorer, ModularScorer
from .pair_text import pair_text_of
from .prompts import prompts_of
from .refusals import refuse_settings, try_once
from .resolve import Origin
from .wishes import Wishes

_OTHER = Family(
    "a family of its own", (), lambda config: getattr(config, "max_position_embeddings", None), own_attention=True
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the manifest says of a model, except what its tokenizer knows.

    network: what is traced; family: how
    pooling: of a bi-encoder that is a transformer and one pooling: its mode; None otherwise
    own_prompts: nobody wished for other prompts, and none came from a card: the library puts the same before texts
    """

    network: torch.nn.Module
    family: Family
    max_length: int
    segments: bool
    prompts: Prompts
    own_prompts: bool = True
    pair_text: PairText | None = None
    dimension: int | None = None
    pooling: str | None = None
    cut_side: CutSide = "right"
    similarity: Literal["cosine", "dot"] = "cosine"
    activation: Literal["identity", "sigmoid"] = "identity"


def read(origin: Origin, loaded: Loaded, wishes: Wishes, say: Callable[[str], None]) -> Usage:
    """Read the use of a loaded model; raises ExportError naming a setting that cannot be honoured."""
    config = loaded.network.config
    family = FAMILIES.get(config.model_type, _OTHER)
    problem = family.problem(config)
    if problem is not None:
        raise ExportError(f"{origin.name} cannot be exported: {problem}")
    refuse_settings(origin, loaded)
    shared = {
        "family": family,
        "max_length": _max_length(origin, loaded, family, wishes),
        "segments": _segments(loaded),
        "cut_side": _cut_side(origin, loaded),
        "prompts": prompts_of(origin, loaded, wishes, say),
        "own_prompts": (wishes.query_prompt, wishes.passage_prompt, card_prompts(origin.name)) == (None, None, None),
    }
    if loaded.kind == "bi-encoder":
        usage = _bi_encoder(origin, loaded, shared)
    else:
        usage = _cross_encoder(origin, loaded, family, wishes, say, shared)
    try_once(origin, loaded, usage.network, usage.dimension)
    return usage


def _bi_encoder(origin: Origin, loaded: Loaded, shared: dict[str, Any]) -> Usage:
    library = loaded.library
    modes, rest = _modes(origin, loaded), [module for module in loaded.rest[1:] if _name(module) != "Dropout"]
    _refuse_second(origin, [_name(module) for module in loaded.rest])
    normalised = bool(rest) and _name(rest[-1]) == "Normalize"
    cut = library.truncate_dim
    with library.truncate_embeddings(None):
        whole = int(library.get_embedding_dimension() or 0)
    if cut is not None and cut > whole:
        raise ExportError(
            f"{origin.name} has vectors of {whole} numbers, of which the first {cut} cannot be kept (--dimensions, or "
            "truncate_dim in its files)"
        )
    similarity = str(library.similarity_fn_name or "cosine")
    if similarity not in ("cosine", "dot"):
        raise ExportError(
            f"{origin.name} compares by {similarity} (similarity_fn_name); recall here knows cosine and dot"
        )
    # The dot product of vectors of length 1 is their cosine.
    cosine = similarity == "cosine" or (normalised and cut is None)
    # The packed runtime pools by itself, and knows a transformer with one pooling and nothing behind it.
    plain = len(modes) == 1 and not [module for module in rest if _name(module) != "Normalize"] and cut is None
    return Usage(
        Embedder(loaded.network, modes, rest, dimensions=cut, normalize=cosine), dimension=cut or whole,
        pooling=modes[0] if plain else None, similarity="cosine" if cosine else "dot", **shared,
    )  # fmt: skip


def _cross_encoder(
    origin: Origin, loaded: Loaded, family: Family, wishes: Wishes, say: Callable[[str], None], shared: dict[str, Any]
) -> Usage:
    activation = _activation(origin, loaded)
    labels = int(loaded.library.num_labels)
    if labels not in (1, 2):
        raise ExportError(f"{origin.name} answers with {labels} labels; a cross-encoder for ranking has one or two")
    pair_text = pair_text_of(origin, loaded, wishes, say)
    if pair_text is not None and shared["cut_side"] == "left":
        raise ExportError(
            f"{origin.name} has a chat template and cuts long texts on the left (truncation_side in "
            "tokenizer_config.json), so that the template's beginning would be lost; that is not supported"
        )
    if pair_text is not None:  # what stands before a query is in there
        shared["prompts"] = shared["prompts"].model_copy(update={"query": "", "instructed": None})
    return Usage(_scorer(origin, loaded, family), activation=activation, pair_text=pair_text, **shared)


def _scorer(origin: Origin, loaded: Loaded, family: Family) -> torch.nn.Module:
    """What is traced of a cross-encoder; raises ExportError when its modules give no score."""
    model, rest = loaded.network, [module for module in loaded.rest if _name(module) != "Dropout"]
    names, task = [_name(module) for module in rest], loaded.transformer.transformer_task
    if names == ["LogitScore"] and task == "text-generation":
        return LastTokenScorer(model.base_model, _vocabulary_rows(origin, loaded, rest[0]), None)
    if names and task == "feature-extraction":
        modes, behind = _modes(origin, loaded), rest[1:]
        _refuse_second(origin, names)
        if _name(behind[-1]) != "Dense" or behind[-1].module_output_name != "scores":
            raise ExportError(f"{origin.name} is built of {_chain(names)}, whose last is no Dense that gives scores")
        return ModularScorer(model, modes, behind)
    if names or task != "sequence-classification":
        raise ExportError(f"{origin.name} is built of {_chain(names)} for the task {task}, which is not supported")
    if family.decoder and hasattr(model, "score"):
        return LastTokenScorer(model.base_model, model.score.weight, model.score.bias)
    return Classifier(model)


def _vocabulary_rows(origin: Origin, loaded: Loaded, score: Any) -> torch.Tensor:
    """float32 [1, d] or [2, d]: the rows of the vocabulary that a LogitScore compares, the true one last."""
    table: torch.Tensor = loaded.network.get_output_embeddings().weight
    ids = [score.true_token_id] if score.false_token_id is None else [score.false_token_id, score.true_token_id]
    if score.module_input_name != "causal_logits":
        raise ExportError(f"{origin.name}'s LogitScore reads {score.module_input_name}; supported is causal_logits")
    if not all(isinstance(token, int) and 0 <= token < len(table) for token in ids):
        raise ExportError(
            f"{origin.name}'s LogitScore names the tokens {ids} (true_token_id, false_token_id), which are not all "
            f"among the {len(table)} of the model"
        )
    return table[ids]


def _name(module: Any) -> str:
    return type(module).__name__


def _chain(names: Sequence[str]) -> str:
    return " → ".join(["Transformer", *names])


def _refuse_second(origin: Origin, names: Sequence[str]) -> None:
    """One Pooling makes one vector of the tokens'; a LogitScore wants logits of words."""
    for name in names[1:]:
        if name in ("Pooling", "LogitScore"):
            raise ExportError(f"{origin.name} is built of {_chain(names)}; a {name} in that place is not supported")


def _modes(origin: Origin, loaded: Loaded) -> Sequence[str]:
    """How the token vectors are joined; raises ExportError where no Pooling does it."""
    first = loaded.rest[0] if loaded.rest else None
    if first is None or _name(first) != "Pooling":
        chain = _chain([_name(module) for module in loaded.rest])
        raise ExportError(f"{origin.name} is built of {chain}; a Pooling must follow its Transformer")
    mode = first.pooling_mode
    return (mode,) if isinstance(mode, str) else tuple(mode)


def _max_length(origin: Origin, loaded: Loaded, family: Family, wishes: Wishes) -> int:
    """What sentence-transformers cuts texts to, but never more than there are positions for; or less, if wished."""
    said, positions = loaded.library.max_seq_length, family.positions(loaded.network.config)
    limits = [int(limit) for limit in (said, positions) if limit is not None and limit <= LONGEST]
    wished = wishes.max_length
    if not limits and wished is None:
        raise ExportError(f"nothing in {origin.name} says how many tokens it reads; say it with --max-length")
    length = min(limits) if wished is None else wished
    if wished is not None and wished > (positions or LONGEST):
        raise ExportError(
            f"{origin.name} has positions for {positions or LONGEST} tokens; --max-length {wished} is not possible"
        )
    special = loaded.tokenizer.num_special_tokens_to_add(pair=loaded.kind == "cross-encoder")
    if length <= special:
        raise ExportError(
            f"{origin.name} would read {length} tokens, of which {special} are special ones; give a larger --max-length"
        )
    return length


def _cut_side(origin: Origin, loaded: Loaded) -> CutSide:
    side = loaded.tokenizer.truncation_side
    if side not in get_args(CutSide):
        raise ExportError(f"{origin.name} sets truncation_side to {side!r}; it must be right or left")
    return cast(CutSide, side)


def _segments(loaded: Loaded) -> bool:
    return bool(
        (getattr(loaded.network.config, "type_vocab_size", 0) or 0) > 1
        and "token_type_ids" in loaded.tokenizer.model_input_names
    )


def _activation(origin: Origin, loaded: Loaded) -> Literal["identity", "sigmoid"]:
    name = _name(loaded.library.activation_fn)
    if name == "Identity":
        return "identity"
    if name == "Sigmoid":
        return "sigmoid"
    raise ExportError(f"{origin.name} ends in the activation {name}; supported are Identity and Sigmoid")
