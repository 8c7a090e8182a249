"""A crash at any moment leaves the old version or the new one, never a mix, and the next run completes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tandem.engine.collection import Collection, FittedWeights, ModelRecord, fitted_weights
from tandem.engine.collection.passage_text import PassageText
from tandem.engine.collection.report import silent
from tandem.engine.collection.republish import republish
from tandem.engine.collection.versions import read_current, writer_lock
from tandem.engine.errors import CollectionError, StorageError
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.text.tokenizer import Tokenizer

from .conftest import World, models_at, write_jsonl


class Crash(BaseException):
    """The process ends here."""


class Disk:
    """Counts what reaches the disk (every fsync, every rename), and may end the process before or after one."""

    def __init__(self, crash_at: int | None, when: str = "before", error: BaseException | None = None) -> None:
        self.operations: list[str] = []
        self._counting = threading.Lock()
        self._crash_at = crash_at
        self._when = when
        self._error = error or Crash()

    @contextmanager
    def watched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", self._wrap("fsync", os.fsync))
            patch.setattr(Path, "replace", self._wrap("rename", Path.replace))
            yield

    def _wrap(self, name: str, operation: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            with self._counting:
                number = len(self.operations)
                self.operations.append(name)
            if number == self._crash_at and self._when == "before":
                raise self._error
            result = operation(*arguments)
            if number == self._crash_at:
                raise self._error
            return result

        return run


@pytest.fixture
def world(index: World, tmp_path: Path) -> tuple[Callable[[Path], object], Path]:
    """A function that publishes a second version, and a root that holds the first."""
    root = tmp_path / "first"
    index(write_jsonl(tmp_path / "old.jsonl", [{"_id": "a", "text": "the key"}]), root)
    new = write_jsonl(tmp_path / "new.jsonl", [{"_id": name, "text": f"the {name} key"} for name in "abcde"])
    return lambda out: index(new, out), root


def fresh(root: Path, name: str) -> Path:
    """A copy of the root, so that every crash meets the same disk."""
    return Path(shutil.copytree(root, root.with_name(name)))


def test_all_of_a_version_is_on_the_disk_before_the_pointer_moves(
    world: tuple[Callable[[Path], object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, root = world
    known = {file.stat().st_ino for file in root.rglob("*")}
    forced: set[int] = set()
    missing: list[list[str]] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        forced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> Path:
        if target.name == "CURRENT":
            there = [*root.glob("versions/**/*"), source, root / "versions", root]
            missing.append([str(path) for path in there if path.stat().st_ino not in forced | known])
            assert {root.stat().st_ino, (root / "versions").stat().st_ino} <= forced, "their entries are new"
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    publish(root)
    assert missing == [[]]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_every_operation(
    world: tuple[Callable[[Path], object], Path], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    publish, root = world
    counting = Disk(None)
    with counting.watched(monkeypatch):
        publish(fresh(root, "counted"))
    assert counting.operations.count("rename") >= 2
    versions = set()
    for number in range(len(counting.operations)):
        out = fresh(root, f"crashed-{number}")
        with Disk(number, when).watched(monkeypatch), pytest.raises(Crash):
            publish(out)
        found = Collection.open(out)
        assert found.ids(range(len(found))) in (["a"], list("abcde"))
        versions.add(len(found))
        publish(out)
        found = Collection.open(out)
        assert found.ids(range(len(found))) == list("abcde")
        assert len(list((out / "versions").iterdir())) == 2
        assert not (out / "staging").exists()
        shutil.rmtree(out)
    assert versions == {1, 5}


def test_a_full_disk_at_every_operation(
    world: tuple[Callable[[Path], object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, root = world
    counting = Disk(None)
    with counting.watched(monkeypatch):
        publish(fresh(root, "counted"))
    for number in range(0, len(counting.operations), 3):
        out = fresh(root, f"full-{number}")
        full = Disk(number, error=OSError(28, "No space left on device"))
        with full.watched(monkeypatch), pytest.raises(StorageError, match="No space left"):
            publish(out)
        Collection.open(out)
        publish(out)
        assert len(Collection.open(out)) == 5


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_retokenising_leaves_the_old_ids_or_the_new_ones(
    world: tuple[Callable[[Path], object], Path], other_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    _, root = world
    text = PassageText(other_tokenizer, titled=True)
    models = models_at().model_copy(
        update={"reranker": ModelRecord(name="other", fingerprint="o" * 64, path="../other")}
    )

    def retokenise(out: Path) -> None:
        with writer_lock(out):
            republish(out, read_current(out), models, text, "english", silent)

    counting = Disk(None)
    with counting.watched(monkeypatch):
        retokenise(fresh(root, "counted"))
    ids = {
        "reranker": Collection.open(root).tokens([0]).ids.tolist(),
        "other": other_tokenizer.encode("the key").tolist(),
    }
    assert ids["reranker"] != ids["other"]
    seen = set()
    for number in range(len(counting.operations)):
        out = fresh(root, f"crashed-{number}")
        with Disk(number, when).watched(monkeypatch), pytest.raises(Crash):
            retokenise(out)
        found = Collection.open(out)
        name = found.manifest.models.reranker.name
        assert found.tokens([0]).ids.tolist() == ids[name]
        seen.add(name)
        retokenise(out)
        found = Collection.open(out)
        assert found.tokens([0]).ids.tolist() == ids["other"]
        assert not (out / "staging").exists()
        shutil.rmtree(out)
    assert seen == {"reranker", "other"}


def test_a_version_that_does_not_open_is_not_published(
    world: tuple[Callable[[Path], object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, root = world

    def refuse(folder: Path, before: Collection | None = None) -> None:
        raise CollectionError(f"{folder} does not open")

    with monkeypatch.context() as patch:
        patch.setattr("tandem.engine.collection.assemble.check", refuse)
        with pytest.raises(CollectionError, match="does not open"):
            publish(root)
    assert len(Collection.open(root)) == 1


def test_an_own_fusion_weight_belongs_to_its_models(index: World, corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    index(corpus, root)
    assert Collection.open(root).fitted is None
    mine = Fusion(recall_weight=3.5, fitted_on="my questions")
    fitted_weights.write(root, FittedWeights(encoder="e" * 64, reranker="r" * 64, fusion=mine))
    kept = Collection.open(root).fitted
    assert kept.fusion == mine
    assert kept.fits("e" * 64, "r" * 64)
    assert not any(kept.fits(*pair) for pair in (("f" * 64, "r" * 64), ("e" * 64, "f" * 64), ("e" * 64, None)))
    index(corpus, root, models=models_at(fingerprint="f" * 64))
    assert Collection.open(root).fitted == kept  # a new version of the corpus has them still
    (root / "fusion.json").write_text("{}")
    with pytest.raises(CollectionError, match="calibrate"):
        _ = Collection.open(root).fitted
    fitted_weights.forget(root)
    assert Collection.open(root).fitted is None
