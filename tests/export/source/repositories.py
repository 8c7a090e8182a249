"""Repositories as people bring them, small and of random weights: written by our own code, in the library's layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen3Config

from tandem.export.quiet import quiet

from ...tiny import MAX_LENGTH, Family, hf_tokenizer, tiny_model, write_json, write_modules

HIDDEN = 32
TEMPLATE = (
    "<|system|>{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}Find what answers{% endif %}\n"
    "<|query|>{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "<|passage|>{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}\n"
    "<|answer|>"
)
"""A reranker's chat template as Qwen3-Reranker's is built: an instruction, a query, a passage, and what is answered."""


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None takes one away."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, {key: item for key, item in (value | changes).items() if item is not None})


def plain(folder: Path, config: Any, *, labels: int | None = None, family: Family = "bert") -> Path:
    """A transformer of any `config` with a tokenizer and nothing else; with `labels`, a cross-encoder's head too."""
    config.vocab_size = len(hf_tokenizer(family))
    door: Any = AutoModel
    if labels is not None:
        config.num_labels, door = labels, AutoModelForSequenceClassification
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = door.from_config(config)
        for name, weight in model.named_parameters():
            # Random, but of a trained model's size, so that texts differ.
            size = 0.1 if weight.dim() < 2 else 1.0 if "embed" in name else 1.5 / weight.shape[-1] ** 0.5
            weight.data = torch.randn(weight.shape) * size + (1.0 if weight.dim() < 2 and "orm" in name else 0.0)
        model.save_pretrained(folder)
        hf_tokenizer(family).save_pretrained(folder)
    return folder


def dense(folder: Path, inputs: int, outputs: int, **settings: Any) -> None:
    """A Dense module's folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(outputs)
        weights = {"linear.weight": torch.randn(outputs, inputs) / inputs**0.5}
        if settings.get("bias", True):
            weights["linear.bias"] = torch.randn(outputs)
    said = {"in_features": inputs, "out_features": outputs, "bias": True}
    said |= {"activation_function": "torch.nn.modules.activation.Tanh"}
    write_json(folder / "config.json", said | settings)
    save_file(weights, folder / "model.safetensors")


def modular_cross_encoder(folder: Path, outputs: int = 1, family: Family = "modernbert", pooling: str = "cls") -> Path:
    """Transformer → Pooling → Dense → LayerNorm → Dense: how the Ettin rerankers are kept."""
    tiny_model(folder, family, layout="since 5.4")
    write_modules(folder, ("Transformer", "Pooling", "Dense", "LayerNorm", "Dense"), "since 5.4")
    edit(folder / "1_Pooling" / "config.json", pooling_mode=pooling)
    gelu = "torch.nn.modules.activation.GELU"
    dense(folder / "2_Dense", HIDDEN, HIDDEN, bias=False, activation_function=gelu)
    write_json(folder / "3_LayerNorm" / "config.json", {"dimension": HIDDEN})
    weights = {"norm.weight": torch.linspace(0.5, 1.5, HIDDEN), "norm.bias": torch.linspace(-0.1, 0.1, HIDDEN)}
    save_file(weights, folder / "3_LayerNorm" / "model.safetensors")
    identity = "torch.nn.modules.linear.Identity"
    names = {"module_input_name": "sentence_embedding", "module_output_name": "scores"}
    dense(folder / "4_Dense", HIDDEN, outputs, activation_function=identity, **names)
    cross_encoder_settings(folder)
    return folder


def cross_encoder_settings(folder: Path, **changes: Any) -> None:
    """What sentence-transformers says of a cross-encoder since version 5.4."""
    said = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}
    said |= {"activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(folder / "config_sentence_transformers.json", said | changes)


def saved_cross_encoder(folder: Path, **changes: Any) -> Path:
    """A BERT with one label, as version 5.4 saves it: with a modules.json of one module."""
    tiny_model(folder, kind="cross-encoder")
    write_modules(folder, ("Transformer",), "since 5.4")
    said = {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "scores",
    }
    write_json(folder / "sentence_bert_config.json", said)
    cross_encoder_settings(folder, **changes)
    return folder


def decoder_reranker(folder: Path, template: str | None = TEMPLATE, *, both: bool = True, **changes: Any) -> Path:
    """A Qwen3 that answers with a word: a LogitScore takes one token's logit, or the difference of two (`both`)."""
    tokenizer = hf_tokenizer("modernbert")
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=64, max_position_embeddings=MAX_LENGTH,
        initializer_range=0.3, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    # A decoder's tokenizer puts no special tokens around a text.
    edit(folder / "tokenizer.json", post_processor=None)
    write_modules(folder, ("Transformer", "LogitScore"), "since 5.4")
    logits = {"method": "forward", "method_output_name": "logits"}
    said = {
        "transformer_task": "text-generation",
        "modality_config": {"text": logits, "message": logits | {"format": "flat"}},
        "module_output_name": "causal_logits",
    }
    write_json(folder / "sentence_bert_config.json", said)
    score = {"true_token_id": 300, "false_token_id": 301 if both else None, "module_input_name": "causal_logits"}
    write_json(folder / "1_LogitScore" / "config.json", score)
    cross_encoder_settings(folder, **changes)
    return folder
