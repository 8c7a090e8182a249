"""A reranker adapter on disk: a standard PEFT LoRA folder, read, checked and put on its base model.

    adapter_config.json  adapter_model.safetensors    as PEFT writes them (LoRA; the head in full)
    exits.safetensors                                 heads after earlier layers, see `exits`
    adapter.json  README.md                           sha256, fusion weight, measured quality; the model card

Everything but the first two is optional: an adapter trained elsewhere with PEFT merges just as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from transformers import AutoConfig

from ...engine.errors import ExportError
from ..quiet import quiet
from .files import read_json
from .layout import counted_modules, transformer_folder
from .library import reading
from .missing_weights import missing_weights
from .record import BaseShape, read_record
from .resolve import Origin

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def load_base(origin: Origin, **config: Any) -> CrossEncoder:
    """The model in `origin.folder` as a cross-encoder with one label, float32, on the CPU; an encoder gets a new head.

    config: settings of transformers' configuration that are to be other than the files say

    Raises ExportError when its files cannot be read.
    """
    folder = base_folder(origin)
    with quiet():  # that the head is new is what `fresh_weights` says
        return reading(
            origin,
            lambda: CrossEncoder(
                str(folder), num_labels=1, device="cpu", local_files_only=True, trust_remote_code=origin.trusted,
                model_kwargs={"dtype": torch.float32}, config_kwargs=config,
                activation_fn=torch.nn.Identity(),
            ),
        )  # fmt: skip


def base_folder(origin: Origin) -> Path:
    """Where sentence-transformers reads `origin` as a cross-encoder: an encoder's other modules are left behind."""
    whole = counted_modules(origin.folder, "cross-encoder") is not None
    return origin.folder if whole else transformer_folder(origin.folder, "bi-encoder")


def fresh_weights(origin: Origin) -> set[str]:
    """Names of the weights that `load_base` makes up at random, since the files do not have them."""
    folder = base_folder(origin)
    config = reading(origin, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=origin.trusted))
    with quiet():
        return set(reading(origin, lambda: missing_weights(origin, "cross-encoder", folder, config)))


def adapt(model: CrossEncoder, origin: Origin, *, trainable: bool = False) -> PeftModel:
    """Put the LoRA adapter `origin.adapter` into the network of `model`, which `load_base` read; PEFT's handle on it.

    Raises ExportError when a file is missing, unreadable or not the recorded one, when the base is not the model (or
    of the shape) that the adapter was trained on, or when neither of them has a head.
    """
    assert origin.adapter is not None
    weights = read_weights(origin.adapter)
    record = read_record(origin.adapter)
    _refuse_labels(weights, origin.adapter)
    if record is not None:
        check_base(origin.folder, model.transformers_model, record.base, origin.adapter)
    return _adapted(model.transformers_model, weights, origin, trainable)


def shape_of(network: Any, name: str) -> BaseShape:
    """The shape and fingerprint that an adapter records of its base."""
    config = network.config
    embeddings = network.get_input_embeddings().weight.detach().to(torch.float16).contiguous()
    return BaseShape(
        name=name,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
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
    read_json(adapter, CONFIG)
    try:
        weights: dict[str, torch.Tensor] = load_file(adapter / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise ExportError(f"{adapter / WEIGHTS} is damaged ({error}); copy or train the adapter again") from error
    return weights


def check_base(base: Path, network: Any, wanted: BaseShape, adapter: Path) -> None:
    """Raise ExportError unless `network`, loaded from `base`, is what `adapter` was trained on."""
    have = shape_of(network, wanted.name)
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
    heads = [tensor for name, tensor in weights.items() if name.endswith(("classifier.weight", "score.weight"))]
    labels = len(heads[0]) if heads else 1
    if labels != 1:
        raise ExportError(
            f"{adapter} has a head of {labels} labels, and a reranker has one; train it with num_labels=1"
        )


def _adapted(network: Any, weights: dict[str, torch.Tensor], origin: Origin, trainable: bool) -> PeftModel:
    base, adapter = origin.folder, origin.adapter
    try:
        with quiet():  # what fits and what does not is compared below
            peft = PeftModel.from_pretrained(network, str(adapter), is_trainable=trainable)
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
    random = sorted(name for name in fresh_weights(origin) if f"base_model.model.{name}" not in weights)
    if random:
        raise ExportError(f"neither {base} nor {adapter} has {', '.join(random)}; its scores would be random")
    return peft
