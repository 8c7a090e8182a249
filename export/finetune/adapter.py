"""A reranker adapter on disk: a standard PEFT LoRA folder, read, checked and merged into its base model.

    adapter_config.json  adapter_model.safetensors    as PEFT writes them (LoRA; pooler and classifier in full)
    exits.safetensors                                 heads on [CLS] after earlier layers
    adapter.json  README.md                           sha256, fusion weight, measured quality; the model card

Everything but the first two is optional: an adapter trained elsewhere with PEFT merges just as well.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, PreTrainedModel

from ...engine.errors import ExportError
from ..quiet import quiet
from .record import BaseShape, read_record

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
EXITS = "exits.safetensors"


def load_merged(base: Path, adapter: Path) -> PreTrainedModel:
    """The base BERT in `base` with the LoRA adapter in `adapter` merged: what is exported and served.

    base:    folder with config.json and model.safetensors of a BERT encoder, local
    adapter: folder with adapter_config.json, adapter_model.safetensors (PEFT) and, when Tandem trained it, adapter.json
    returns: BertForSequenceClassification with one label, float32, in eval mode; its logit is the rerank score

    Raises ExportError when a file is missing, unreadable or not the recorded one, when the base is not the model (or
    of the shape) that the adapter was trained on, or when neither of them has a pooler or classifier.
    """
    base, adapter = Path(base), Path(adapter)
    weights = read_weights(adapter)
    record = read_record(adapter)
    model, fresh = load_base(base)
    if record is not None:
        check_base(base, model, record.base, adapter)
    return _merge(model, fresh, weights, base, adapter).float().eval()


def load_base(base: Path) -> tuple[BertForSequenceClassification, set[str]]:
    """The encoder in the folder `base` with a one-label head, float32, and the names of weights that it does not have.

    Raises ExportError when `base` is not a local BERT with safetensors weights.
    """
    for name in ("config.json", "model.safetensors"):
        if not (base / name).is_file():
            raise ExportError(f"{base} has no {name}; give a local folder of a BERT model with safetensors weights")
    try:
        family = json.loads((base / "config.json").read_text()).get("model_type")
    except ValueError as error:
        raise ExportError(f"{base / 'config.json'} is not JSON ({error}); copy the model again") from error
    if family != "bert":
        raise ExportError(f"{base} is a {family} model; adapters are trained and merged on BERT models only")
    try:
        with quiet():  # that the classifier is new is what `missing_keys` says
            model, info = BertForSequenceClassification.from_pretrained(
                base,
                num_labels=1,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ExportError(f"the weights in {base} cannot be read ({error}); copy the model again") from error
    return model, set(info["missing_keys"])


def shape_of(model: BertForSequenceClassification, name: str) -> BaseShape:
    """The shape and fingerprint that an adapter records of its base."""
    config = model.config
    embeddings = model.bert.embeddings.word_embeddings.weight.detach().to(torch.float16).contiguous()
    return BaseShape(
        name=name,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        embeddings_sha256=hashlib.sha256(embeddings.numpy().tobytes()).hexdigest(),
    )


def read_weights(adapter: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors by PEFT's names; raises ExportError when the folder or a file is missing or damaged."""
    if not adapter.is_dir():
        raise ExportError(f"{adapter} is not a folder; an adapter is one, made by `tandem finetune --out {adapter}`")
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise ExportError(f"{adapter / name} is missing; an adapter folder holds {CONFIG} and {WEIGHTS}")
    try:
        weights: dict[str, torch.Tensor] = load_file(adapter / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise ExportError(f"{adapter / WEIGHTS} is damaged ({error}); copy or train the adapter again") from error
    return weights


def check_base(base: Path, model: BertForSequenceClassification, wanted: BaseShape, adapter: Path) -> None:
    """Raise ExportError unless `model`, loaded from `base`, is what `adapter` was trained on."""
    have = shape_of(model, wanted.name)
    for field in ("layers", "hidden", "intermediate", "vocabulary"):
        if getattr(have, field) != getattr(wanted, field):
            raise ExportError(
                f"{adapter} was trained on {wanted.name} with {field} {getattr(wanted, field)}, "
                f"but {base} has {field} {getattr(have, field)}; give the base it was trained on"
            )
    if have.embeddings_sha256 != wanted.embeddings_sha256:
        raise ExportError(
            f"{adapter} was trained on {wanted.name}, but {base} holds other weights of that shape; "
            "give the base it was trained on"
        )


def _refuse_labels(weights: dict[str, torch.Tensor], adapter: Path) -> None:
    heads = [tensor for name, tensor in weights.items() if name.endswith("classifier.weight")]
    labels = len(heads[0]) if heads else 1
    if labels != 1:
        raise ExportError(
            f"{adapter} has a head of {labels} labels, and a reranker has one; train it with num_labels=1"
        )


def _merge(
    model: BertForSequenceClassification, fresh: set[str], weights: dict[str, torch.Tensor], base: Path, adapter: Path
) -> PreTrainedModel:
    _refuse_labels(weights, adapter)
    try:
        with quiet():  # what fits and what does not is compared below
            peft = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"the adapter {adapter} does not fit the base {base} ({' '.join(reason[:2])}); "
            "give the base it was trained on"
        ) from error
    state = get_peft_model_state_dict(peft, save_embedding_layers=False)
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    have = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != have:
        name = min(set(wanted.items()) ^ set(have.items()))[0]
        raise ExportError(
            f"the adapter {adapter} does not fit the base {base}: {name} is {have.get(name, 'absent')} in the adapter "
            f"and {wanted.get(name, 'absent')} in the model; give the base it was trained on"
        )
    random = sorted(name for name in fresh if f"base_model.model.{name}" not in weights)
    if random:
        raise ExportError(f"neither {base} nor {adapter} has {', '.join(random)}; its scores would be random")
    return peft.merge_and_unload()
