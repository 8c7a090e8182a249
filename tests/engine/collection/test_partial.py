"""A damaged segment is named and refused; what is sound is searched where that was asked for, and not changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import Collection, Document, read_pointer
from tandem.engine.errors import CollectionError

from .conftest import write_jsonl

ROOMS = ("attic", "hall", "cellar")


@pytest.fixture
def root(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    """A collection of three segments, a room each."""
    corpus: list[dict[str, str]] = []
    for room in ROOMS:
        corpus += [{"_id": f"{room}{n}", "text": f"The ladder number {n} is in the {room}."} for n in range(4)]
        path = write_jsonl(tmp_path / "corpus.jsonl", corpus)
        index_corpus(path, tmp_path / "notes", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    assert len(Collection.open(tmp_path / "notes").segments) == 3
    return tmp_path / "notes"


def damage(root: Path, *numbers: int) -> None:
    """Change the last byte of the texts of some segments."""
    version = root / "versions" / read_pointer(root).version
    for number in numbers:
        file = sorted(path for path in version.iterdir() if path.is_dir())[number] / "texts.npy"
        data = file.read_bytes()
        file.unlink()  # another version may have the file too
        file.write_bytes(data[:-1] + b"!")


def open_engine(root: Path) -> Engine:
    return Engine.open(root, device="cpu", threads=1, warm_up=False, allow_partial=True)


def test_the_others_are_searched_and_each_answer_says_so(root: Path) -> None:
    damage(root, 1)
    with pytest.raises(CollectionError, match=r"texts\.npy is damaged"):
        Engine.open(root, device="cpu", warm_up=False)
    with open_engine(root) as engine:
        result = engine.search("the ladder", budget_ms=None, top_k=50)
        assert {hit.id for hit in result.hits} == {f"{room}{n}" for room in ("attic", "cellar") for n in range(4)}
        assert result.warnings == ["1 of the collection's segments are damaged and were not searched"]
        assert [len(engine.collection), engine.collection.manifest.counts.documents] == [8, 8]
        assert "texts.npy" in engine.collection.left_out[0]
        for change in (lambda: engine.add([Document("new", "", "A text.")]), lambda: engine.delete(["attic1"])):
            with pytest.raises(CollectionError, match=r"texts\.npy is damaged"):
                change()
    assert len(list((root / "versions").iterdir())) <= 2


def test_where_nothing_is_sound_nothing_is_opened(root: Path) -> None:
    damage(root, 0, 1, 2)
    with pytest.raises(CollectionError, match=r"texts\.npy is damaged"):
        open_engine(root)


def test_a_sound_one_is_as_it_is_without_the_option(root: Path) -> None:
    with open_engine(root) as engine:
        assert not engine.collection.left_out
        assert engine.search("the ladder", budget_ms=None, top_k=50).warnings == []
        assert engine.add([Document("new", "", "A ladder.")]).added == 1


def test_a_file_that_nobody_vouches_for_is_refused_whatever_is_asked(root: Path) -> None:
    version = root / "versions" / read_pointer(root).version
    (version / "other.bin").write_bytes(b"x")
    with pytest.raises(CollectionError, match=r"other\.bin"):
        open_engine(root)
