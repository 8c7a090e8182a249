"""Tiny random-weight models of every supported family, with tokenizers made on the spot: no downloads."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaTokenizerFast,
)

from tandem.engine.models.artifact import Kind
from tandem.export.parity.samples import docstrings
from tandem.export.quiet import quiet

Family = Literal["bert", "xlm-roberta", "modernbert"]
Layout = Literal["before 5.4", "since 5.4"]
LAYOUTS: tuple[Layout, ...] = ("before 5.4", "since 5.4")
"""How sentence-transformers writes its files; both are read from then on."""
FAMILIES: tuple[Family, ...] = ("bert", "xlm-roberta", "modernbert")
VOCABULARY = 1000
MAX_LENGTH = 128
# So small a model gains nothing from a second thread, and OpenMP's threads wait by spinning: on a busy two-core machine
# that made one export take 40 s instead of 2.
torch.set_num_threads(1)


def tiny_model(
    folder: Path,
    family: Family = "bert",
    kind: Kind = "bi-encoder",
    *,
    layers: int = 2,
    hidden: int = 32,
    pooling: Literal["mean", "cls"] = "mean",
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
    seed: int = 0,
    layout: Layout = "before 5.4",
) -> Path:
    """Write a Hugging Face folder (config, safetensors, tokenizer) of a random-weight model; returns `folder`.

    A bi-encoder's folder has sentence-transformers' files too, as its versions of `layout` write them. Each family has
    one tokenizer, whatever the kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family)
    config = _config(family, layers, hidden)
    # Quiet: the first ModernBERT of a process imports modules of PyTorch that warn of their own age.
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "bi-encoder":
            model = AutoModel.from_config(config)
        else:
            config.num_labels = 1
            config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
            model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    if kind == "bi-encoder":
        _sentence_files(folder, hidden, pooling, normalize, prompts or {}, layout)
    return folder


def hf_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The family's tokenizer as Hugging Face's class: the oracle for ours."""
    return _tokenizer(family)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _config(family: Family, layers: int, hidden: int) -> Any:
    sizes = dict(
        vocab_size=len(_tokenizer(family)),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        initializer_range=0.3,  # the usual 0.02 makes every text look the same to so small a model
    )
    if family == "bert":
        return BertConfig(**sizes, max_position_embeddings=MAX_LENGTH)
    if family == "xlm-roberta":
        special = dict(bos_token_id=0, pad_token_id=1, eos_token_id=2)
        return XLMRobertaConfig(**sizes, **special, type_vocab_size=1, max_position_embeddings=MAX_LENGTH + 2)
    vocabulary = _tokenizer(family).get_vocab()
    return ModernBertConfig(
        **sizes,
        max_position_embeddings=MAX_LENGTH,
        local_attention=16,
        global_attn_every_n_layers=2,
        reference_compile=False,
        initializer_cutoff_factor=2.0,
        pad_token_id=vocabulary["[PAD]"],
        cls_token_id=vocabulary["[CLS]"],
        sep_token_id=vocabulary["[SEP]"],
        bos_token_id=vocabulary["[CLS]"],
        eos_token_id=vocabulary["[SEP]"],
    )


@cache
def _tokenizer(family: Family) -> PreTrainedTokenizerFast:
    train = {"bert": _wordpiece, "xlm-roberta": _unigram, "modernbert": _byte_level}[family]
    return train(docstrings())


def _subwords(texts: Sequence[str], continuation: str) -> list[tuple[str, int]]:
    """The commonest words, beginnings and ends (`continuation` before them) of `texts`, and how often each occurs.

    Counted, not trained: the library's WordPiece and Unigram trainers break ties differently in every process.
    """
    words = Counter(re.findall(r"[a-z]+|[^\sa-z]", "\n".join(texts).lower()))
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        cuts = {word, *(word[:size] for size in (1, 2, 3)), *(continuation + word[-size:] for size in (1, 2, 3, 4))}
        for piece in cuts:
            pieces[piece] += count
    for character in {character for word in words for character in word}:
        pieces[character] += len(words)  # so that every character has its token, alone and inside a word
        pieces[continuation + character] += len(words)
    return sorted(pieces.items(), key=lambda item: (-item[1], item[0]))[:VOCABULARY]


def _wordpiece(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = special + [piece for piece, _ in _subwords(texts, "##")]
    rust = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return BertTokenizerFast(tokenizer_object=rust, model_max_length=MAX_LENGTH)


def _unigram(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    # A word's beginning carries the mark of the space before it; anything inside a word does not.
    counted = Counter({"▁": 1})
    for piece, count in _subwords(texts, "##"):
        counted[piece[2:] if piece.startswith("##") else "▁" + piece] += count
    total = sum(counted.values())
    scores = [(piece, math.log(count / total)) for piece, count in sorted(counted.items())]
    rust = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *scores], unk_id=3))
    rust.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    rust.decoder = decoders.Metaspace()
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=rust, model_max_length=MAX_LENGTH)


def _byte_level(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    rust = Tokenizer(models.BPE())
    rust.normalizer = normalizers.NFC()
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator(texts, trainer)
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rust,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=MAX_LENGTH,
    )


# The types of sentence-transformers' modules, as it has written them before and since version 5.4.
_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "LogitScore": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
}


def write_modules(folder: Path, kinds: Sequence[str], layout: Layout = "before 5.4") -> None:
    """Write `modules.json` of the modules `kinds`, the first in the folder itself, each other in one of its own."""
    types = _TYPES if layout == "since 5.4" else {kind: f"sentence_transformers.models.{kind}" for kind in kinds}
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": types[kind]}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)


def _sentence_files(
    folder: Path, hidden: int, pooling: str, normalize: bool, prompts: dict[str, str], layout: Layout = "before 5.4"
) -> None:
    write_modules(folder, ["Transformer", "Pooling", *(["Normalize"] if normalize else [])], layout)
    settings: dict[str, Any] = {"prompts": prompts, "similarity_fn_name": "cosine" if normalize else "dot"}
    if layout == "before 5.4":
        modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **modes})
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})
        write_json(folder / "config_sentence_transformers.json", settings)
        return
    write_json(
        folder / "1_Pooling" / "config.json",
        {"embedding_dimension": hidden, "pooling_mode": pooling, "include_prompt": True},
    )
    if normalize:
        names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
        write_json(folder / "2_Normalize" / "config.json", names)
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    sentence = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": text},
        "module_output_name": "token_embeddings",
    }
    write_json(folder / "sentence_bert_config.json", sentence)
    settings |= {"model_type": "SentenceTransformer", "default_prompt_name": None}
    settings["__version__"] = {"sentence_transformers": "5.4.0", "transformers": "5.0.0", "pytorch": "2.11.0"}
    write_json(folder / "config_sentence_transformers.json", settings)
