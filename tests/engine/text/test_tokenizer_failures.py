"""A tokenizer that fails, also where Rust panics: an error of ours, when it is opened or of one request alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import ArtifactError, InferenceError
from tandem.engine.models.artifact import MANIFEST
from tandem.engine.text import tokenizer as own
from tandem.engine.text.tokenizer import Tokenizer

WORDS = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"}
# A regular expression that the library gives up on, by a panic, when a text repeats a letter often.
GIVES_UP = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
PANICKING = "a" * 40 + "b"


def written(path: Path, **changes: Any) -> Path:
    """A `tokenizer.json` of three words, with these parts."""
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    document = {"version": "1.0", "added_tokens": [], **dict.fromkeys(parts), "model": WORDS, **changes}
    path.write_text(json.dumps(document))
    return path


MISSING_SPECIAL = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"post_processor": MISSING_SPECIAL},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"model": {"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "[UNK]"}},
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": []}},
    ],
    ids=["panics when it is read", "panics at a special token", "panics at any text", "lacks [UNK]", "is refused"],
)
def test_one_that_fails_on_any_text_is_told_when_it_is_opened(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path / "tokenizer.json", **changes)
    with pytest.raises(
        ArtifactError, match=r"tokenizer\.json is not a readable tokenizer \(.+\); export the model again"
    ):
        Tokenizer(path, max_length=8, segments=False)


def test_a_text_it_fails_on_is_an_error_of_ours(tmp_path: Path) -> None:
    tokenizer = Tokenizer(written(tmp_path / "t.json", pre_tokenizer=GIVES_UP), max_length=512, segments=False)
    for failing in (
        lambda: tokenizer.encode(PANICKING),
        lambda: tokenizer.encode_many(["a", PANICKING]),
        lambda: tokenizer.count(PANICKING),
        lambda: tokenizer.encodings([PANICKING]),
    ):
        with pytest.raises(InferenceError, match="the tokenizer failed on a text of this request") as caught:
            failing()
        assert isinstance(caught.value, Exception)
        assert len(str(caught.value)) < 300
    assert tokenizer.encode("a").tolist() == [1]


def test_an_interruption_is_none_of_its_failures() -> None:
    with pytest.raises(KeyboardInterrupt), own._failing_as(InferenceError, "the tokenizer failed"):
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path):
    """Of a model whose tokenizer panics at some texts."""
    folder = tmp_path_factory.mktemp("panicking")
    model = Path(shutil.copytree(tiny_bi_encoder, folder / "encoder"))
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [GIVES_UP, tokenizer["pre_tokenizer"]]}
    RustTokenizer.from_str(json.dumps(tokenizer)).save(str(model / "tokenizer.json"))
    manifest = json.loads((model / MANIFEST).read_text())
    data = (model / "tokenizer.json").read_bytes()
    manifest["files"]["tokenizer.json"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (model / MANIFEST).write_text(json.dumps(manifest))
    (folder / "corpus.jsonl").write_text('{"_id": "x", "text": "The key is near the door."}\n')
    index_corpus(folder / "corpus.jsonl", folder / "c", encoder=model)
    with Engine.open(folder / "c", device="cpu", warm_up=False) as opened:
        yield opened


def test_only_the_request_with_such_a_text_fails(engine: Engine) -> None:
    with pytest.raises(InferenceError, match="the tokenizer failed on a text"):
        engine.search(PANICKING, rerank=False)
    with pytest.raises(InferenceError, match="the tokenizer failed on a text"):
        engine.embed(["the door", PANICKING])
    assert [hit.id for hit in engine.search("the door", rerank=False).hits] == ["x"]
    assert engine.embed(["the door"]).shape[0] == 1
