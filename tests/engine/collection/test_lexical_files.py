"""The words of a collection: built with it, hashed with it, made anew without encoding, and not there by wish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem.engine.collection import Collection, IndexSettings, ModelRecord
from tandem.engine.collection.manifest import CollectionManifest
from tandem.engine.collection.passage_text import PassageText
from tandem.engine.collection.report import silent
from tandem.engine.collection.republish import republish
from tandem.engine.collection.versions import read_current
from tandem.engine.errors import CollectionError, InputError
from tandem.engine.recall.lexical_index import PREFIX
from tandem.engine.recall.words import Language, of_ids
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

from .conftest import World, contents, models_at


def never(batch: TokenBatch) -> None:
    raise AssertionError("a passage was encoded")


def spoken(language: Language | None) -> IndexSettings:
    return IndexSettings(shard_size=4, language=language)


def words_in(collection: Collection) -> list[str]:
    return sorted(name for name in collection.manifest.segments[0].files if name.startswith(PREFIX))


def test_words_are_built_with_the_collection(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    collection = Collection.open(tmp_path / "out")
    assert collection.manifest.language == "english"
    assert f"{PREFIX}meta.json" in words_in(collection)
    assert len(collection.lexical) == len(collection)
    rows, _ = collection.lexical.search("RIVERS", 5)
    assert all("river" in text for text in collection.texts(rows))
    assert collection.ids(collection.lexical.search("title 7", 1)[0]) == ["d7"]  # titles are indexed too


def test_opening_and_searching_change_nothing(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    folder = Collection.open(tmp_path / "out").folder
    before = contents(folder)
    collection = Collection.open(tmp_path / "out")
    collection.lexical.search("river", 5)
    collection.verify()
    assert contents(folder) == before


def test_a_flipped_byte_is_found(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    collection = Collection.open(tmp_path / "out")
    for name in words_in(collection):
        file = collection.segments[0].folder / name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(CollectionError, match="damaged"):
            Collection.open(tmp_path / "out")
        file.write_bytes(data)


def test_another_language_is_a_new_version_that_encodes_nothing(index: World, corpus: Path, tmp_path: Path) -> None:
    asked: list[Language | None] = ["english", None, "german", "other", "german"]
    versions, vectors = set(), set()
    for number, language in enumerate(asked):
        report = index(corpus, tmp_path / "out", settings=spoken(language), **({"encode": never} if number else {}))
        assert report.unchanged == (number > 0)
        collection = Collection.open(tmp_path / "out")
        versions.add(collection.version)
        vectors.add((collection.segments[0].folder / "vectors.npy").stat().st_ino)
        assert (collection.manifest.language, collection.manifest.settings.language) == (language, language)
        assert bool(words_in(collection)) == (collection.lexical is not None) == (language is not None)
    assert (len(versions), len(vectors)) == (5, 1)
    assert index(corpus, tmp_path / "out", settings=spoken("german"), encode=never).version in versions


def test_of_other_languages_the_token_ids_are_the_words(
    index: World, corpus: Path, tmp_path: Path, tokenizer: Tokenizer, other_tokenizer: Tokenizer
) -> None:
    def found(text: str, by: Tokenizer) -> list[str]:
        collection = Collection.open(tmp_path / "out")
        return collection.ids(collection.lexical.search(of_ids(by.encode(text).tolist()), 3)[0])

    index(corpus, tmp_path / "out", settings=spoken("other"))
    assert "d4" in found("bank 4", tokenizer)
    # With another reranker's ids come other words, and nothing is encoded.
    text = PassageText(other_tokenizer, titled=True)
    record = ModelRecord(name="other", fingerprint="o" * 64, path="../other")
    models = models_at().model_copy(update={"reranker": record})
    republish(tmp_path / "out", read_current(tmp_path / "out"), models, text, "other", silent)
    assert "d4" in found("bank 4", other_tokenizer)


def test_token_ids_as_words_need_a_reranker(index: World, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--no-lexical"):
        index(corpus, tmp_path / "out", settings=spoken("other"), reranker_tokenizer=None)


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"index setting language: .*'english'"):
        IndexSettings(language="klingon")


def test_a_manifest_from_before_there_were_words_has_none(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out", settings=spoken(None))
    document = json.loads((Collection.open(tmp_path / "out").folder / "manifest.json").read_text())
    del document["settings"]["language"]
    assert CollectionManifest.model_validate(document).language is None
