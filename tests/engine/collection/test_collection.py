"""What is damaged, missing, foreign or unsafe is refused, by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.collection import Collection
from tandem.engine.errors import CollectionError
from tandem.engine.scoring.lexical import Lexicon

from .conftest import World


@pytest.fixture
def root(index: World, corpus: Path, tmp_path: Path) -> Path:
    index(corpus, tmp_path / "out")
    return tmp_path / "out"


def version(root: Path) -> Path:
    return next((root / "versions").iterdir())


def test_a_flipped_byte_in_any_file(root: Path) -> None:
    files = [*version(root).iterdir(), root / "CURRENT"]
    assert len(files) > 12
    for file in files:
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        file.write_bytes(bad)
        with pytest.raises(CollectionError, match="index"):
            Collection.open(root)
        file.write_bytes(good)
    Collection.open(root)


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer", "linked"])
def test_a_file_that_is_not_as_it_was_is_noticed_without_hashing(root: Path, damage: str) -> None:
    for file in version(root).iterdir():
        good = file.read_bytes()
        file.unlink()
        if damage == "linked":
            elsewhere = root.parent / "elsewhere"
            elsewhere.write_bytes(good)
            file.symlink_to(elsewhere)
        elif damage != "missing":
            file.write_bytes(good[:-1] if damage == "shorter" else good + b"\0")
        with pytest.raises(CollectionError, match=r"index again|link"):
            Collection.open(root, verify=False)
        file.unlink(missing_ok=True)
        file.write_bytes(good)
    Collection.open(root, verify=False)


def rewrite(root: Path, change: Callable[[dict], None]) -> None:
    """Change the manifest, and the pointer with it, as somebody might by hand."""
    manifest = json.loads((version(root) / "manifest.json").read_text())
    change(manifest)
    data = json.dumps(manifest).encode()
    (version(root) / "manifest.json").write_bytes(data)
    pointer = {"version": version(root).name, "manifest_sha256": hashlib.sha256(data).hexdigest()}
    (root / "CURRENT").write_text(json.dumps(pointer))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.update(format=3), "format"),
        (lambda manifest: manifest.update(surprise=1), "surprise"),
        (lambda manifest: manifest.pop("job"), "job"),
        (lambda manifest: manifest["counts"].update(passages=3), "for 3 passages"),
        (lambda manifest: manifest.update(dimension=8), "dimension"),
        (lambda manifest: manifest.update(token_dtype="uint32"), "uint32"),
        (lambda manifest: manifest["files"].update({"../x": {"sha256": "", "size": 0}}), "outside"),
    ],
)
def test_a_manifest_that_does_not_fit(root: Path, change: Callable[[dict], None], said: str) -> None:
    rewrite(root, change)
    with pytest.raises(CollectionError, match=said):
        Collection.open(root)


@pytest.mark.parametrize("pointer", ["", "[]", "{}", '{"version": "../../etc", "manifest_sha256": ""}', "\xff"])
def test_a_pointer_that_points_nowhere(root: Path, pointer: str) -> None:
    (root / "CURRENT").write_bytes(pointer.encode("latin-1"))
    with pytest.raises(CollectionError, match="damaged"):
        Collection.open(root)


def test_what_is_no_collection_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CollectionError, match="tandem index"):
            Collection.open(path)


def test_links_of_folders_are_refused(root: Path) -> None:
    folder = version(root)
    folder.rename(root.parent / "moved")
    folder.symlink_to(root.parent / "moved")
    with pytest.raises(CollectionError, match="link"):
        Collection.open(root)


def test_rows_may_repeat_and_be_none(root: Path) -> None:
    collection = Collection.open(root)
    assert collection.ids(np.array([2, 2, 0])) == ["d2", "d2", "d0"]
    assert collection.texts([]) == []
    assert len(collection.tokens(np.empty(0, dtype=np.int64))) == 0


def test_the_lexicon_counts_the_stored_tokens(root: Path) -> None:
    collection = Collection.open(root)
    every = collection.tokens(np.arange(len(collection)))
    counted = Lexicon.of(every, len(collection.lexicon.frequencies))
    assert collection.lexicon.frequencies.tolist() == counted.frequencies.tolist()
    assert collection.lexicon.passages == counted.passages
    assert collection.lexicon.mean_length == pytest.approx(counted.mean_length)
    assert collection.lexicon.frequencies.sum() > 0
