"""The reranker in training, as a module of sentence-transformers: a cross-encoder of any family with LoRA or all of its
weights in training, heads after earlier layers, and the weight of the evidence beside it.

A checkpoint holds what is trained, and how the rest is built again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn
from transformers import AutoConfig

from ...engine.errors import ExportError
from ..quiet import quiet
from ..source.adapter import adapt, base_folder, load_base
from ..source.exits import read_heads, stack_of
from ..source.library import reading
from ..source.record import read_record
from ..source.resolve import Origin
from .exit_heads import ExitHeads, head_of

TRAINED = "trained.safetensors"
# LoRA's alpha / rank.
SCALE = 2
Pairs = Sequence[tuple[str, str]]


class Reranker(InputModule):  # type: ignore[misc]
    """[n] pairs → `scores` [n, 1], `exit_scores` [exits, n], and `evidence_weight`, a positive scalar."""

    config_file_name: ClassVar[str] = "reranker.json"
    config_keys: ClassVar[list[str]] = ["base", "adapter", "trusted", "rank", "exits", "length"]

    def __init__(
        self, base: str, adapter: str | None, trusted: bool, rank: int, exits: Sequence[int] | None, length: int | None
    ) -> None:
        """A model's folder, and the adapter to go on from, if any.

        rank:   of a new adapter; an adapter that is gone on from has its own. 0: all weights are trained
        exits:  layers after which there are heads; None: `usual_exits`, or those of what is gone on from
        length: tokens that are read of a pair; None: as many as the model can

        Raises ExportError for a model that cannot be read, or not be trained so.
        """
        super().__init__()
        origin = Origin(Path(base).name, Path(base), None, Path(adapter) if adapter else None, trusted)
        self.base, self.adapter, self.trusted, self.rank = base, adapter, trusted, rank
        self.inner = _without_dropout(origin)
        network = self.inner.transformers_model
        stack, former = stack_of(network), read_heads(origin.trained)
        self.exits = _exits(self.inner, stack, tuple(former) if exits is None and former else exits)
        self.heads = ExitHeads(network, stack, self.exits) if stack and self.exits else None
        peft = None
        if origin.adapter is not None:
            peft = adapt(self.inner, origin, trainable=True)
            if not rank:
                peft.merge_and_unload().requires_grad_(True)  # in place
                peft = None
        elif rank:
            peft = _with_lora(self.inner, network, stack, rank, origin)
        if self.heads is not None:
            self.heads.take(former, origin.trained)
        self.peft = (peft,)  # not a module of its own: its weights are the inner model's
        self.length = min(length or 10**9, self.inner.max_seq_length or 512)
        self.inner.max_seq_length = self.length
        self.inner.config.output_hidden_states = bool(self.exits)
        record = read_record(origin.trained)
        known = record.fusion.recall_weight if record else 0.0
        self.evidence_weight = nn.Parameter(torch.tensor(math.log(known or 20.0)))
        self.processor = self.tokenizer = self.inner.tokenizer
        self.max_seq_length = self.length

    def preprocess(self, inputs: Pairs, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Padded tokens of pairs, with the model's own prompt where there is no other."""
        own = self.inner.prompts.get(self.inner.default_prompt_name or "")
        return dict(self.inner.preprocess(inputs, prompt=prompt or own, **kwargs))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds the scores to `features`."""
        features = self.inner(features, **kwargs)
        features["exit_scores"] = (
            self.heads(features) if self.heads else features["scores"].new_zeros((0, len(features["scores"])))
        )
        features["evidence_weight"] = self.evidence_weight.exp()
        return features

    @torch.inference_mode()
    def score(self, pairs: Pairs, batch: int = 32) -> npt.NDArray[np.float32]:
        """float32 [exits + 1, n]: every layer's scores of `pairs`, read in batches of one length."""
        self.eval()
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        scores = np.empty((len(self.exits) + 1, len(pairs)), dtype=np.float32)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            features = self.preprocess([pairs[row] for row in rows])
            found = self(
                {k: v.to(self.evidence_weight.device) if isinstance(v, Tensor) else v for k, v in features.items()}
            )
            scores[:-1, rows] = found["exit_scores"].float().cpu().numpy()
            scores[-1, rows] = found["scores"].float().cpu().numpy()[:, 0]
        return scores

    def trained(self) -> dict[str, Tensor]:
        """Every trained tensor by name."""
        return {name: each.detach().contiguous() for name, each in self.named_parameters() if each.requires_grad}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write what is trained, and how to build the rest again."""
        self.save_config(output_path)
        save_file(self.trained(), Path(output_path) / TRAINED)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Reranker:
        """Read what `save` wrote."""
        reranker = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        reranker.load_state_dict(load_file(Path(model_name_or_path, subfolder, TRAINED)), strict=False)
        return reranker


def as_cross_encoder(reranker: Reranker) -> CrossEncoder:
    """The model that sentence-transformers' trainer and evaluators take."""
    return CrossEncoder(modules=[reranker], device="cpu", activation_fn=nn.Identity())


def usual_exits(layers: int) -> tuple[int, ...]:
    """After a third, a half and two thirds of the layers."""
    return tuple(sorted({round(layers * part) for part in (1 / 3, 1 / 2, 2 / 3)} - {0, layers}))


def _without_dropout(origin: Origin) -> CrossEncoder:
    """Under one pass over the data there is nothing to overfit, and dropout takes a fifth of a CPU step."""
    folder = base_folder(origin)
    config = reading(origin, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=origin.trusted))
    still = {name: 0.0 for name, value in config.to_dict().items() if "dropout" in name and isinstance(value, float)}
    return load_base(origin, **still)


def _exits(model: CrossEncoder, stack: str | None, wished: Sequence[int] | None) -> tuple[int, ...]:
    """The layers that have exits: of the wished ones those that the network has, none where it cannot be cut."""
    classifier = model[0].transformer_task == "sequence-classification"
    layers = model.config.num_hidden_layers
    if stack is None or not classifier:
        return ()
    return usual_exits(layers) if wished is None else tuple(layer for layer in wished if 0 < layer < layers)


def _with_lora(model: CrossEncoder, network: Any, stack: str | None, rank: int, origin: Origin) -> Any:
    """LoRA on every linear layer of the stack, in place, and what lies behind the stack in full."""
    if any(parameter.requires_grad for module in list(model)[1:] for parameter in module.parameters()):
        raise ExportError(f"{origin.name} has layers behind its transformer, which no adapter holds; give --rank 0")
    inside = f"{stack}." if stack else ""
    linear = [name for name, each in network.named_modules() if name.startswith(inside) and type(each) is nn.Linear]
    classifier = model[0].transformer_task == "sequence-classification"
    head = head_of(network, stack) if stack and classifier else ()
    config = LoraConfig(
        r=rank, lora_alpha=SCALE * rank, target_modules=[name for name in linear if f"{name}.weight" not in head],
        modules_to_save=_made_of(network, head) or None, base_model_name_or_path=origin.name,
        task_type="SEQ_CLS" if head else None,
    )  # fmt: skip
    with quiet():
        return get_peft_model(network, config)


def _made_of(network: nn.Module, parameters: Collection[str]) -> list[str]:
    """The largest modules of `network` that hold no other than these parameters."""
    found: list[str] = []
    for name, module in network.named_modules():
        own = [f"{name}.{each}" for each, _ in module.named_parameters()]
        if own and all(each in parameters for each in own) and not name.startswith(tuple(f"{top}." for top in found)):
            found.append(name)
    return found
