"""Random models as artifact folders that every contestant can open, and texts of a wanted number of tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.models.artifact import (
    MANIFEST,
    VARIANT_FILES,
    Artifact,
    ArtifactManifest,
    FileRecord,
    Kind,
    ModelSize,
    Parity,
    Precision,
    SourceRecord,
    Variant,
)
from ...engine.platform.durable_io import sha256
from .shapes import CLASSES, MAX_LENGTH, ModelShape
from .weights import weights

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make(
    folder: Path, shape: ModelShape, kind: Kind, *, seed: int, graphs: Sequence[Precision] = ("fp16",)
) -> Artifact:
    """An artifact with random weights, proven on nothing; needs PyTorch, safetensors, and onnx for `graphs`.

    Only a BERT gets graphs.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    tensors = weights(shape, kind, torch.Generator().manual_seed(seed))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(shape, kind)))
    _write_tokenizer(folder, shape)
    (folder / "onnx").mkdir()
    unproven = Parity(samples=0, max_error=0.0, mean_error=0.0, top10_overlap=1.0, kendall_tau=1.0)
    variants: dict[Precision, Variant] = {}
    for precision in graphs if shape.family == "bert" else ():
        from .onnx_graph import random_graph

        graph = random_graph(tensors, shape, kind, half=precision == "fp16")
        (folder / VARIANT_FILES[precision]).write_bytes(graph.SerializeToString())
        variants[precision] = Variant(file=VARIANT_FILES[precision], parity=unproven)
    files = {
        file.relative_to(folder).as_posix(): FileRecord(sha256=sha256(file), size=file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    manifest = ArtifactManifest(
        kind=kind, name=shape.name, source=SourceRecord(name="random weights"), family=shape.family,
        max_length=MAX_LENGTH, segments=shape.family == "bert", pad_id=0,
        dimension=shape.width if kind == "bi-encoder" else None, pooling="mean" if kind == "bi-encoder" else None,
        variants=variants, files=files, opset=20, tools={},
        size=ModelSize(layers=shape.layers, heads=shape.heads, width=shape.width, wide=shape.wide),
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return Artifact.open(folder, kind=kind)


def made(
    folder: Path, shape: ModelShape, kind: Kind, *, seed: int, graphs: Sequence[Precision] = ("fp16",)
) -> Artifact:
    """`make`, unless an earlier process has made it; of one that died at it nothing is kept."""
    if not (folder / MANIFEST).exists():
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, shape, kind, seed=seed, graphs=graphs)
    return Artifact.open(folder, kind=kind)


def texts(shape: ModelShape, lengths: Sequence[int], random: np.random.Generator) -> list[str]:
    """Texts that the tokenizer turns into so many tokens each."""
    words = random.integers(len(SPECIAL), shape.vocabulary, int(np.sum(lengths))).tolist()
    made, start = [], 0
    for length in lengths:
        made.append(" ".join(_word(word) for word in words[start : start + length]))
        start += length
    return made


def _word(number: int) -> str:
    """The word of an id: letters and digits, which the pre-tokenizer does not cut."""
    return f"q{number}"


def _write_tokenizer(folder: Path, shape: ModelShape) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {name: place for place, name in enumerate(SPECIAL)}
    vocabulary |= {_word(number): number for number in range(len(SPECIAL), shape.vocabulary)}
    rust = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rust.save(str(folder / "tokenizer.json"))
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    settings = {**named, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _config(shape: ModelShape, kind: Kind) -> dict[str, Any]:
    name = CLASSES[shape.family]
    if kind == "bi-encoder":
        return {**shape.architecture(), "architectures": [f"{name}Model"]}
    one_label = {"id2label": {"0": "score"}, "label2id": {"score": 0}}
    return {**shape.architecture(), "architectures": [f"{name}ForSequenceClassification"], **one_label}
