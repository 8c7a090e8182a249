"""A snapshot is the collection of one moment, whatever happens to the collection that it was made of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import Collection, FittedWeights, fitted_weights
from tandem.engine.collection import snapshot as module
from tandem.engine.collection.creating import create_like, drop_collection
from tandem.engine.collection.merging import merge
from tandem.engine.collection.snapshot import snapshot
from tandem.engine.collection.updating import delete
from tandem.engine.collection.versions import read_pointer
from tandem.engine.engine import Engine
from tandem.engine.errors import ArtifactError, CollectionError, StorageError
from tandem.engine.scoring.fusion import Fusion

from .conftest import World, write_jsonl
from .test_versions import Disk


def held(folder: Path) -> list[tuple[str, str, bytes]]:
    """Id, text and vector of each passage."""
    opened = Collection.open(folder)
    rows = np.arange(opened.rows) if opened.live is None else opened.live.rows
    vectors = np.concatenate([segment.index.vectors for segment in opened.segments])
    return [
        (name, text, vector.tobytes())
        for name, text, vector in zip(opened.ids(rows), opened.texts(rows), vectors[rows], strict=True)
    ]


@pytest.fixture
def root(index: World, tmp_path: Path) -> Path:
    documents = [{"_id": name, "text": f"the {name} key", "year": 2000 + place} for place, name in enumerate("abcde")]
    index(write_jsonl(tmp_path / "corpus.jsonl", documents), tmp_path / "live")
    delete(tmp_path / "live", ["c"])
    return tmp_path / "live"


def test_it_holds_what_was_there_and_takes_no_space(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "backup" / "monday"
    out.parent.mkdir()
    before = held(root)
    snapshot(root, out)
    delete(root, ["a", "b"])
    delete(root, ["d"])  # two versions later the first one's own folder is gone
    assert held(out) == before
    vectors = next(out.rglob("vectors.npy"))
    assert vectors.stat().st_ino == next(root.rglob("vectors.npy")).stat().st_ino
    delete(out, ["e"])
    assert len(Collection.open(out)) == 3, "it is a collection like any other"
    assert len(Collection.open(root)) == 1
    assert {path.name for path in root.iterdir()} <= {"CURRENT", "versions", "writer.lock", "snapshot.lock"}


def test_on_another_disk_it_is_a_copy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(held: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", elsewhere)
    snapshot(root, tmp_path / "copy")
    monkeypatch.undo()
    assert held(tmp_path / "copy") == held(root)
    own, copied = (next(folder.rglob("vectors.npy")).stat() for folder in (root, tmp_path / "copy"))
    assert own.st_ino != copied.st_ino


def test_its_weights_come_with_it(root: Path, tmp_path: Path) -> None:
    kept = FittedWeights(encoder="e" * 64, reranker="r" * 64, fusion=Fusion())
    fitted_weights.write(root, kept)
    snapshot(root, tmp_path / "copy")
    assert Collection.open(tmp_path / "copy").fitted == kept


def test_it_finds_its_models(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "a", "text": "the attic"}])
    index_corpus(corpus, tmp_path / "live", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    snapshot(tmp_path / "live", tmp_path / "deep" / "er" / "copy")
    snapshot(tmp_path / "live", tmp_path / "alone", with_models=True)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "alone", moved / "alone")
    for folder in (tmp_path / "deep" / "er" / "copy", moved / "alone"):
        with Engine.open(folder, device="cpu", warm_up=False) as engine:
            assert [hit.id for hit in engine.search("the attic", budget_ms=None).hits] == ["a"]
            inside = moved / "alone" in engine.encoder.artifact.path.parents
            assert inside == (folder == moved / "alone")


def test_what_is_there_already_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(CollectionError, match="there already"):
        snapshot(root, tmp_path / "taken")
    for inside in (root / "copy", root / ".snapshot", root / "versions" / "monday"):
        with pytest.raises(CollectionError, match="lies in the collection itself"):
            snapshot(root, inside)
    with pytest.raises(CollectionError, match="holds no collection"):
        snapshot(tmp_path / "taken", tmp_path / "out")


def test_what_is_no_collection_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    typo = tmp_path / "typo"
    for change in (
        lambda: delete(typo, ["a"]), lambda: merge(typo), lambda: snapshot(typo, tmp_path / "out"),
        lambda: drop_collection(typo), lambda: create_like(typo, tmp_path / "new"),
    ):  # fmt: skip
        with pytest.raises(CollectionError, match="is not a folder"):
            change()
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_gives_no_snapshot(root: Path, tmp_path: Path) -> None:
    vectors = next((root / "versions" / read_pointer(root).version).rglob("vectors.npy"))
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")
    with pytest.raises(CollectionError, match=r"vectors\.npy"):
        snapshot(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".copy*"))


def test_a_full_disk_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Disk(None)
    with counting.watched(monkeypatch):
        snapshot(root, tmp_path / "counted")
    for number in range(0, len(counting.operations), 4):
        full = Disk(number, error=OSError(28, "No space left on device"))
        with full.watched(monkeypatch), pytest.raises(StorageError, match="No space left"):
            snapshot(root, tmp_path / "copy")
        assert not list(tmp_path.glob("*copy*"))
        assert not (root / module.HELD).exists()
    snapshot(root, tmp_path / "copy")
    assert held(tmp_path / "copy") == held(root)


def test_an_empty_one_like_another_takes_documents(root: Path, tmp_path: Path) -> None:
    create_like(root, tmp_path / "new")
    opened = Collection.open(tmp_path / "new")
    assert (len(opened), opened.manifest.job) == (0, Collection.open(root).manifest.job)
    assert os.path.normpath(tmp_path / "new" / opened.manifest.models.encoder.path) == str(tmp_path / "encoder")
    with pytest.raises(CollectionError, match="there already"):
        create_like(root, tmp_path / "new")
    with pytest.raises(CollectionError, match="there already"):
        create_like(root, root)


def test_a_collection_that_is_dropped_is_gone_and_nothing_else_is(root: Path, tmp_path: Path) -> None:
    opened = Collection.open(root)
    (tmp_path / "notes").mkdir()
    with pytest.raises(CollectionError, match="holds no collection"):
        drop_collection(tmp_path / "notes")
    drop_collection(root)
    assert not root.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "notes"]
    assert opened.texts([0]) == ["the a key"], "who has it open goes on"


def test_a_damaged_model_is_not_taken_along(tmp_path: Path, tiny_bi_encoder: Path) -> None:
    encoder = tmp_path / "encoder"
    shutil.copytree(tiny_bi_encoder, encoder)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "a", "text": "the attic"}])
    index_corpus(corpus, tmp_path / "live", encoder=encoder)
    graph = next(encoder.rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="damaged"):
        snapshot(tmp_path / "live", tmp_path / "alone", with_models=True)
    assert not (tmp_path / "alone").exists()


def test_what_making_a_collection_left_is_no_collection(root: Path, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    (ended / "staging" / "half").mkdir(parents=True)
    (ended / "writer.lock").touch()
    create_like(root, ended)
    assert len(Collection.open(ended)) == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    with pytest.raises(CollectionError, match="there already"):
        create_like(root, tmp_path / "notes")
