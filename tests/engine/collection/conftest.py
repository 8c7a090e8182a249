"""A world small enough to be indexed in a blink: a WordPiece tokenizer and an encoder that is a hash of its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from tandem.engine.collection import BuildReport, CollectionModels, IndexSettings, ModelRecord, build
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

DIMENSION = 16
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-'\"()[]{}#/\\_*+=<>@&%$|~^`éüßø漢字"
World = Callable[..., BuildReport]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary += ["the", "key", "lock", "door", "river", "bank", "wind", "rain"]
    rust = RustTokenizer(models.WordPiece({token: place for place, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    rust.save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return Tokenizer(tokenizer_file, max_length=128, segments=True)


@pytest.fixture(scope="session")
def other_tokenizer(tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Of another vocabulary: the same words, each with another id."""
    document = json.loads(tokenizer_file.read_text())
    known = document["model"]["vocab"]
    last = len(known) - 1
    document["model"]["vocab"] = {word: place if place < 4 else last + 4 - place for word, place in known.items()}
    path = tmp_path_factory.mktemp("other-tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(document))
    return Tokenizer(path, max_length=128, segments=True)


def encode(batch: TokenBatch) -> np.ndarray:
    """Unit vectors that depend on which tokens there are: passages that share words are near each other."""
    table = np.random.default_rng(5).standard_normal((256, DIMENSION))
    sums = np.array([table[batch[row]].sum(axis=0) + table[255] for row in range(len(batch))])
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def models_at(path: str = "../encoder", fingerprint: str = "e" * 64) -> CollectionModels:
    return CollectionModels(
        encoder=ModelRecord(name="encoder", fingerprint=fingerprint, path=path, precision="fp32"),
        reranker=ModelRecord(name="reranker", fingerprint="r" * 64, path="../reranker"),
    )


@pytest.fixture
def index(tokenizer: Tokenizer) -> World:
    """`build` with everything given that a test does not care about."""

    def run(source: str | Path, out: Path, **changes: Any) -> BuildReport:
        arguments: dict[str, Any] = {
            "encode": encode, "tokenizer": tokenizer, "reranker_tokenizer": tokenizer, "models": models_at(),
            "settings": IndexSettings(shard_size=4),
        }  # fmt: skip
        return build(source, out, **(arguments | changes))

    return run


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eleven documents, the last long enough to be split."""
    words = ["key", "lock", "door", "river", "bank", "wind", "rain"]
    rows = [
        {"_id": f"d{n}", "title": f"Title {n}", "text": f"the {words[n % 7]} and the {words[n * 3 % 7]} {n}.", "n": n}
        for n in range(10)
    ]
    long = " ".join(f"the {words[n % 7]} is by the {words[(n + 2) % 7]} {n}." for n in range(30))
    return write_jsonl(tmp_path / "corpus.jsonl", [*rows, {"_id": "long", "title": "", "text": long}])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a version's folder by its path in it."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
