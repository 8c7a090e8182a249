"""A small random model of each family that is exported, as a repository that sentence-transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...engine.models.artifact import Kind
from ...export.quiet import quiet

LENGTH = 128
VOCABULARY = 400
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 96, "pad_token_id": 0,
}  # fmt: skip
_IDS = {"bos_token_id": 2, "eos_token_id": 3}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 16, **_IDS}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {"max_position_embeddings": LENGTH + 2}),
    "camembert": ("CamembertConfig", {"max_position_embeddings": LENGTH + 2}),
    "xlm-roberta": ("XLMRobertaConfig", {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1}),
    "mpnet": ("MPNetConfig", {"pad_token_id": 1}),
    "distilbert": ("DistilBertConfig", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}),
    "electra": ("ElectraConfig", {"embedding_size": 32}),
    "albert": ("AlbertConfig", {"embedding_size": 32}),
    "deberta-v2": (
        "DebertaV2Config",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32, "type_vocab_size": 0,
         "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False},
    ),
    "modernbert": (
        "ModernBertConfig",
        {"local_attention": 16, "global_attn_every_n_layers": 2, "num_hidden_layers": 3, "cls_token_id": 2,
         "sep_token_id": 3, **_IDS},
    ),
    "nomic_bert": ("NomicBertConfig", {}),
    "gte": ("GteConfig", {}),
    "eurobert": ("EuroBertConfig", {"mask_token_id": 4, **_GROUPED}),
    "t5": ("T5Config", {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2, **_IDS}),
    "qwen3": ("Qwen3Config", _GROUPED),
    "gemma3_text": ("Gemma3TextConfig", {"sliding_window": 16, "use_bidirectional_attention": True, **_GROUPED}),
}  # fmt: skip
"""A configuration's class and what is special of it, by the `model_type`."""
NO_CLASSIFIER = frozenset({"nomic_bert", "t5", "gte", "gemma3_text"})
"""Families that transformers has no cross-encoder of, or none that sentence-transformers loads."""


def random_model(family: str, kind: Kind = "bi-encoder", **special: Any) -> Any:
    """A model of transformers whose weights are as large as trained ones, so that places and neighbours matter."""
    import torch
    import transformers

    name, own = CONFIGS[family]
    sizes = {name: value for name, value in _SIZES.items() if family not in ("distilbert", "t5") or "size" not in name}
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, name)(**{**sizes, "vocab_size": VOCABULARY, **own, **special})
        if kind == "cross-encoder":
            config.num_labels = 1
            model = transformers.AutoModelForSequenceClassification.from_config(config)
        elif family == "t5":
            model = transformers.T5EncoderModel(config)
        else:
            model = transformers.AutoModel.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.data.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    return model.eval()


def write_repository(folder: Path, family: str, kind: Kind) -> Path:
    """Write a random model's weights, tokenizer and, of a bi-encoder, sentence-transformers' files; its folder."""
    folder.mkdir(parents=True)
    model = random_model(family, kind)
    with quiet():
        model.save_pretrained(folder)
    _write_tokenizer(folder, int(model.config.pad_token_id))
    if kind == "bi-encoder":
        last = family in ("qwen2", "qwen3")
        _write_modules(folder, "lasttoken" if last else "mean")
    return folder


def _write_modules(folder: Path, pooling: str) -> None:
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": "" if place == 0 else "1_Pooling",
            "type": f"sentence_transformers.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    settings = {"embedding_dimension": 64, "pooling_mode": pooling, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LENGTH, "do_lower_case": False}))


def _write_tokenizer(folder: Path, pad_id: int) -> None:
    """Letters and pairs of letters, with the special tokens where the configurations above have them."""
    from itertools import product
    from string import ascii_lowercase

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if pad_id == 1:
        special[:2] = ["[UNK]", "[PAD]"]
    pieces = [prefix + letter for letter, prefix in product(ascii_lowercase, ("", "##"))]
    pieces += [prefix + "".join(pair) for pair, prefix in product(product("aeinorst", repeat=2), ("", "##"))]
    vocabulary = {piece: place for place, piece in enumerate([*special, *pieces])}
    rust = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer()
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rust.save(str(folder / "tokenizer.json"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    settings = {
        **named, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
