"""What is damaged, missing, foreign or unsafe is refused, by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.collection import Collection, checking, read_pointer
from tandem.engine.errors import CollectionError
from tandem.engine.platform.durable_io import sha256
from tandem.engine.recall import int8_codes
from tandem.engine.scoring.lexical import Lexicon

from .conftest import World


@pytest.fixture
def root(index: World, corpus: Path, tmp_path: Path) -> Path:
    index(corpus, tmp_path / "out")
    return tmp_path / "out"


def version(root: Path) -> Path:
    return next((root / "versions").iterdir())


def files_of(root: Path) -> list[Path]:
    return [file for file in version(root).rglob("*") if file.is_file()]


def test_a_flipped_byte_in_any_file(root: Path) -> None:
    files = [*files_of(root), root / "CURRENT"]
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
def test_a_file_that_is_not_as_it_was_is_noticed_before_any_is_hashed(
    root: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(checking, "sha256", lambda file: hashed.append(file) or "")
    for file in files_of(root):
        good = file.read_bytes()
        file.unlink()
        if damage == "linked":
            elsewhere = root.parent / "elsewhere"
            elsewhere.write_bytes(good)
            file.symlink_to(elsewhere)
        elif damage != "missing":
            file.write_bytes(good[:-1] if damage == "shorter" else good + b"\0")
        with pytest.raises(CollectionError, match=r"index again|link"):
            Collection.open(root)
        file.unlink(missing_ok=True)
        file.write_bytes(good)
    assert not hashed
    monkeypatch.undo()
    Collection.open(root)


def test_every_file_is_hashed_however_large_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def noting(file: Path) -> str:
        hashed.append(file.name)
        return sha256(file)

    monkeypatch.setattr(checking, "sha256", noting)
    collection = Collection.open(root)
    assert sorted(hashed) == sorted(collection.manifest.segments[0].files)


@pytest.mark.parametrize("kind", ["scan", "ivf"])
def test_faiss_reads_no_file_whose_hash_is_wrong(
    index: World, corpus: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit of a length made it allocate 8 GB."""
    monkeypatch.setattr("tandem.engine.recall.planning.FLAT_BYTES", 0)
    monkeypatch.setattr("tandem.engine.recall.planning.SCAN_BYTES", 10**9 if kind == "scan" else 0)
    index(corpus, tmp_path / "out")
    codes = next(version(tmp_path / "out").rglob("*.faiss"))
    read: list[Path] = []
    monkeypatch.setattr(int8_codes, "read", lambda path, *_: read.append(path))
    data = bytearray(codes.read_bytes())
    data[78] ^= 0x40
    codes.write_bytes(data)
    with pytest.raises(CollectionError, match=f"{codes.name} is damaged"):
        Collection.open(tmp_path / "out")
    assert not read


def test_a_file_that_no_manifest_names_is_not_read(root: Path) -> None:
    (version(root) / ".nfs0001").write_bytes(b"left by a file system")
    Collection.open(root)
    (version(root) / "gpu.faiss").write_bytes(b"put there by somebody")
    with pytest.raises(CollectionError, match=r"gpu\.faiss is not among the files of .*; move it away"):
        Collection.open(root)


def test_files_may_have_other_names_elsewhere(root: Path) -> None:
    """Copies by hard link are common (`cp -l`, backups), and the hash decides."""
    (root.parent / "copy").hardlink_to(version(root) / "000001" / "texts.npy")
    Collection.open(root)


def test_a_file_that_cannot_be_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(file: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checking, "sha256", failing)
    with pytest.raises(CollectionError, match=r"cannot be read \(Input/output error\)"):
        Collection.open(root)


def test_what_changes_while_it_is_open_is_found_by_verify(root: Path) -> None:
    collection = Collection.open(root)
    collection.verify()
    (version(root) / "000001" / "texts.npy").write_bytes(b"x" * (version(root) / "000001" / "texts.npy").stat().st_size)
    with pytest.raises(CollectionError, match=r"texts\.npy is damaged"):
        collection.verify()


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
        (lambda manifest: manifest.update(format=4), "format"),
        (lambda manifest: manifest.update(surprise=1), "surprise"),
        (lambda manifest: manifest.pop("job"), "job"),
        (lambda manifest: manifest["counts"].update(passages=3), "its manifest says 3"),
        (lambda manifest: manifest.update(dimension=8), "dimension"),
        (lambda manifest: manifest.update(token_dtype="uint32"), "uint32"),
        (lambda manifest: manifest["segments"][0]["files"].update({"../x": {"sha256": "", "size": 0}}), "outside"),
        (lambda manifest: manifest["segments"][0].update(name=".."), "outside"),
        (lambda manifest: manifest["segments"][0].update(deleted=1), "deleted.npy cannot be read"),
        (lambda manifest: manifest.update(segments=[]), "is not among the files"),
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


@pytest.mark.parametrize("name", ["CURRENT", "fusion.json", "manifest.json"])
def test_nobody_waits_for_a_pipe_in_the_place_of_a_small_file(root: Path, name: str) -> None:
    """As a mount that hangs would be: opened as usual it would wait for a writer for ever."""
    file = (version(root) if name == "manifest.json" else root) / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with pytest.raises(CollectionError, match=name):
        _ = Collection.open(root).fitted


def test_a_pointer_is_a_small_plain_file(root: Path) -> None:
    (root / "CURRENT").write_bytes(b" " * 20_000)
    with pytest.raises(CollectionError, match=r"CURRENT cannot be read \(it has more than 10000 bytes\)"):
        read_pointer(root)
    (root / "CURRENT").write_bytes(b"[" * 9_000)
    with pytest.raises(CollectionError, match="damaged"):
        read_pointer(root)
    (root / "CURRENT").unlink()
    (root / "CURRENT").mkdir()
    with pytest.raises(CollectionError, match=r"CURRENT cannot be read \(it is not a plain file\)"):
        read_pointer(root)


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
    assert collection.lexicon.frequencies.sum() > 0
