from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.collection import Collection, CollectionManifest, IndexSettings, read_corpus
from tandem.engine.collection.versions import STAGING, writer_lock
from tandem.engine.errors import CollectionError, CorpusError, InferenceError, InputError, StorageError
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

from .conftest import World, contents, encode, models_at, write_jsonl


class Stop(BaseException):
    """What Ctrl-C or a crash does, at a place of the test's choosing."""


def stopping(after: int):
    """An encoder that is interrupted in its call number `after`, from 0."""
    calls = iter(range(1000))

    def run(batch: TokenBatch) -> np.ndarray:
        if next(calls) == after:
            raise Stop
        return encode(batch)

    return run


def test_passages_tokens_and_vectors_belong_together(
    index: World, corpus: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    report = index(corpus, tmp_path / "out")
    collection = Collection.open(tmp_path / "out")
    documents = list(read_corpus(corpus))
    assert (report.documents, report.passages, report.unchanged) == (11, len(collection), False)
    assert len(collection) > 12
    rows = np.random.default_rng(0).permutation(len(collection))
    texts, titles, tokens = collection.texts(rows), collection.titles(rows), collection.tokens(rows)
    read = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
    assert tokens.ids.dtype == np.int32
    assert [tokens[n].tolist() for n in range(len(rows))] == [tokenizer.encode(text).tolist() for text in read]
    np.testing.assert_allclose(collection.index.vectors[rows], encode(tokenizer.encode_many(read)), atol=1e-6)
    for row, place, text in zip(rows, collection.places(rows), texts, strict=True):
        document = next(document for document in documents if document.id == place.document)
        assert document.text[place.start : place.end] == text
        assert collection.metadata([row]) == [document.metadata]
        assert collection.titles([row]) == [document.title]
    assert collection.documents([0, len(collection) - 1]) == ["d0", "long"]
    scores, found = collection.index.search(collection.index.vectors[:3], 1)
    assert found[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_every_id_is_found_and_no_other(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    collection = Collection.open(tmp_path / "out")
    for row, identity in enumerate(collection.ids(range(len(collection)))):
        assert collection.row_of(identity) == row
    for absent in ("", "d", "d00", "zzz", "long", "\ud800"):
        with pytest.raises(InputError, match="no passage"):
            collection.row_of(absent)


def test_the_report_and_the_manifest_tell_of_the_corpus(index: World, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.csv").write_text("text,year\nkey,2020\nlock,2021\nkey,1999\n")
    (notes / "b.png").write_bytes(b"x")
    report = index(notes, tmp_path / "out")
    assert report.passed_over == {".png": 1}
    said = [note.split(";")[0] for note in report.notes]
    assert said == [
        "read 1 file: 1 .csv",
        "passed over 1 file: 1 .png",
        "rows without an id: 2",
        "rows without an id that repeat the text and title of an earlier one: 1",
    ]
    manifest = Collection.open(tmp_path / "out").manifest
    assert manifest.field_types == {"year": "number"}
    older = manifest.model_dump(exclude={"field_types"})
    assert CollectionManifest.model_validate(older).field_types == {}, "manifests from before types open"
    again = index(notes, tmp_path / "out")
    assert (again.unchanged, again.passed_over, again.notes) == (True, report.passed_over, report.notes[:2])


def test_the_same_again_does_nothing(index: World, corpus: Path, tmp_path: Path) -> None:
    first = index(corpus, tmp_path / "out")

    def untouched(batch: TokenBatch) -> np.ndarray:
        raise AssertionError("nothing was to be encoded")

    second = index(corpus, tmp_path / "out", encode=untouched)
    assert second.unchanged
    assert (second.version, second.passages) == (first.version, first.passages)


@pytest.mark.parametrize("damage", ["flipped", "shorter", "missing"])
def test_the_same_again_makes_a_damaged_collection_whole(
    index: World, corpus: Path, tmp_path: Path, damage: str
) -> None:
    first = index(corpus, tmp_path / "out")
    path = max((tmp_path / "out" / "versions" / first.version).rglob("*.npy"), key=lambda each: each.stat().st_size)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if damage == "flipped" else data[:-1])
    with pytest.raises(CollectionError, match="index again"):
        Collection.open(tmp_path / "out")
    second = index(corpus, tmp_path / "out")
    assert not second.unchanged
    assert len(Collection.open(tmp_path / "out")) == first.passages


@pytest.mark.parametrize("change", ["corpus", "settings", "encoder"])
def test_whatever_changes_makes_a_new_version(index: World, corpus: Path, tmp_path: Path, change: str) -> None:
    first = index(corpus, tmp_path / "out")
    old = Collection.open(tmp_path / "out")
    changes = {}
    if change == "corpus":
        corpus.write_text(corpus.read_text() + '{"_id": "new", "text": "the wind"}\n')
    elif change == "settings":
        changes["settings"] = IndexSettings(shard_size=4, encode_title=False)
    else:
        changes["models"] = models_at(fingerprint="f" * 64)
    second = index(corpus, tmp_path / "out", **changes)
    assert not second.unchanged
    assert Collection.open(tmp_path / "out").manifest.parent == first.version
    assert old.texts([0]) == Collection.open(tmp_path / "out").texts([0])


def test_two_versions_are_kept_and_no_staging_area(index: World, tmp_path: Path) -> None:
    for number in range(4):
        write_jsonl(tmp_path / "c.jsonl", [{"_id": "a", "text": f"the key {number}"}])
        index(tmp_path / "c.jsonl", tmp_path / "out")
    versions = sorted(folder.name[:6] for folder in (tmp_path / "out" / "versions").iterdir())
    assert versions == ["000003", "000004"]
    assert not (tmp_path / "out" / STAGING).exists()


def test_an_interrupted_job_keeps_its_shards_while_another_corpus_is_up_to_date(
    index: World, corpus: Path, tmp_path: Path
) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", [{"_id": "a", "text": "the key"}])
    index(other, tmp_path / "out")
    with pytest.raises(Stop):
        index(corpus, tmp_path / "out", encode=stopping(2))
    assert index(other, tmp_path / "out").unchanged
    assert index(corpus, tmp_path / "out").resumed == 8
    assert not (tmp_path / "out" / STAGING).exists()


def test_moved_models_are_noted_without_encoding(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    report = index(corpus, tmp_path / "out", models=models_at("../elsewhere"), encode=stopping(0))
    assert report.unchanged
    collection = Collection.open(tmp_path / "out")
    assert collection.manifest.models.encoder.path == "../elsewhere"
    assert collection.manifest.version.startswith("000002")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_resumed_is_equal_to_uninterrupted_byte_for_byte(
    index: World, corpus: Path, tmp_path: Path, after: int
) -> None:
    index(corpus, tmp_path / "whole")
    with pytest.raises(Stop):
        index(corpus, tmp_path / "out", encode=stopping(after))
    with pytest.raises(CollectionError, match="no collection"):
        Collection.open(tmp_path / "out")
    report = index(corpus, tmp_path / "out")
    assert (report.resumed > 0) == (after > 0)
    folders = [Collection.open(tmp_path / name).folder for name in ("whole", "out")]
    assert contents(folders[0]) == contents(folders[1])


def test_a_damaged_shard_is_encoded_again(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "whole")
    with pytest.raises(Stop):
        index(corpus, tmp_path / "out", encode=stopping(2))
    shard = next((tmp_path / "out" / STAGING).glob("*/00001.npz"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    index(corpus, tmp_path / "out")
    folders = [Collection.open(tmp_path / name).folder for name in ("whole", "out")]
    assert contents(folders[0]) == contents(folders[1])


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location("world", Path(sys.argv[1]) / "conftest.py")
world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(world)
from tandem.engine.collection import IndexSettings, build
from tandem.engine.text.tokenizer import Tokenizer
tokenizer = Tokenizer(Path(sys.argv[2]), max_length=128, segments=True)
calls = iter(range(100))
def encode(batch):
    if next(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return world.encode(batch)
build(sys.argv[3], Path(sys.argv[4]), encode=encode, tokenizer=tokenizer, reranker_tokenizer=tokenizer,
      models=world.models_at(), settings=IndexSettings(shard_size=4))
"""


def test_a_killed_process_is_resumed(index: World, corpus: Path, tmp_path: Path, tokenizer_file: Path) -> None:
    index(corpus, tmp_path / "whole")
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", KILLED, here, str(tokenizer_file), str(corpus), str(tmp_path / "out")]
    assert subprocess.run(arguments, check=False, env=os.environ).returncode == -signal.SIGKILL
    report = index(corpus, tmp_path / "out")
    assert report.resumed >= 8
    folders = [Collection.open(tmp_path / name).folder for name in ("whole", "out")]
    assert contents(folders[0]) == contents(folders[1])


def test_a_full_disk_leaves_the_old_version_and_the_finished_shards(
    index: World, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index(corpus, tmp_path / "out")
    write_jsonl(tmp_path / "more.jsonl", [{"_id": f"n{n}", "text": f"the bank {n}"} for n in range(20)])
    original, writes = np.savez, []

    def full(path: Path, **arrays: np.ndarray) -> None:
        writes.append(path)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(StorageError, match="No space left"):
            index(tmp_path / "more.jsonl", tmp_path / "out")
    assert Collection.open(tmp_path / "out").version == first.version
    assert index(tmp_path / "more.jsonl", tmp_path / "out").resumed == 8


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "'d5': .* not finite"), (np.inf, "not finite"), (3.0, "length")])
def test_a_vector_that_is_none_names_its_passage(
    index: World, corpus: Path, tmp_path: Path, tokenizer: Tokenizer, bad: float, said: str
) -> None:
    document = next(document for document in read_corpus(corpus) if document.id == "d5")
    wanted = tokenizer.encode(f"{document.title} {document.text}").tolist()

    def broken(batch: TokenBatch) -> np.ndarray:
        vectors = encode(batch)
        for row in range(len(batch)):
            if batch[row].tolist() == wanted:
                vectors[row] = bad
        return vectors

    with pytest.raises(InferenceError, match=said):
        index(corpus, tmp_path / "out", encode=broken)


def test_without_a_reranker_there_are_no_tokens(index: World, corpus: Path, tmp_path: Path) -> None:
    models = models_at().model_copy(update={"reranker": None})
    index(corpus, tmp_path / "out", reranker_tokenizer=None, models=models)
    collection = Collection.open(tmp_path / "out")
    assert collection.manifest.token_dtype is None
    with pytest.raises(CollectionError, match=r"has no token ids .* `tandem retokenize "):
        collection.tokens([0])


def test_text_that_a_reranker_wants_before_passages_is_tokenised_with_them(
    index: World, corpus: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    index(corpus, tmp_path / "plain")
    index(corpus, tmp_path / "out", reranker_before="the ")
    plain, found = (Collection.open(tmp_path / name) for name in ("plain", "out"))
    read = [f"the {title} {text}" for title, text in zip(plain.titles([0, 1]), plain.texts([0, 1]), strict=True)]
    tokens = found.tokens([0, 1])
    assert [tokens[n].tolist() for n in range(2)] == [tokenizer.encode(text).tolist() for text in read]
    assert found.manifest.tokenized.before == "the "
    assert plain.manifest.tokenized.tokenizer == found.manifest.tokenized.tokenizer == tokenizer.fingerprint
    assert (found.index.vectors[:2] == plain.index.vectors[:2]).all(), "the encoder reads no such text"


def test_skipped_documents_are_counted(index: World, corpus: Path, tmp_path: Path) -> None:
    corpus.write_text("{bad\n" + corpus.read_text() + "{bad\n")
    with pytest.raises(CorpusError, match="line 1"):
        index(corpus, tmp_path / "out")
    settings = IndexSettings(shard_size=4, skip_bad=True)
    with pytest.raises(Stop):
        index(corpus, tmp_path / "out", settings=settings, encode=stopping(2))
    report = index(corpus, tmp_path / "out", settings=settings)
    assert (report.skipped, report.documents) == (2, 11)
    assert Collection.open(tmp_path / "out").manifest.counts.skipped == 2


def test_an_empty_corpus_publishes_nothing(index: World, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(CorpusError, match="no document"):
        index(tmp_path / "c.jsonl", tmp_path / "out")
    assert not (tmp_path / "out" / "CURRENT").exists()


def test_an_id_that_looks_like_a_chunk_of_another(index: World, corpus: Path, tmp_path: Path) -> None:
    corpus.write_text(corpus.read_text() + '{"_id": "long#2", "text": "the wind"}\n')
    with pytest.raises(CorpusError, match="'long#2'"):
        index(corpus, tmp_path / "out")


def test_no_second_writer_and_no_other_peoples_folder(index: World, corpus: Path, tmp_path: Path) -> None:
    with writer_lock(tmp_path / "out"), pytest.raises(StorageError, match="another process"):
        index(corpus, tmp_path / "out")
    index(corpus, tmp_path / "out")
    with pytest.raises(CollectionError, match="holds other things"):
        index(corpus, tmp_path)
    with pytest.raises(CollectionError, match="is a file"):
        index(corpus, corpus)


def test_progress_is_told(index: World, corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    index(corpus, tmp_path / "out", progress=lambda *step: told.append(step))
    assert ("encoding", 11) in {(what, total) for _, total, what in told}
    assert all(total is None or done <= total for done, total, _ in told)


def test_a_large_corpus_gets_a_measured_index(
    index: World, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.engine.recall.planning.SCAN_BYTES", 0)
    monkeypatch.setattr("tandem.engine.recall.planning.FLAT_BYTES", 0)
    report = index(corpus, tmp_path / "out")
    assert report.index == "ivf"
    collection = Collection.open(tmp_path / "out")
    assert collection.manifest.largest.recall_at_100 >= 0.99
    assert "sample queries" in collection.manifest.largest.measured_on
    assert "000001/inverted.faiss" in collection.manifest.files
    _, found = collection.index.search(collection.index.vectors[:3], 1)
    assert found[:, 0].tolist() == [0, 1, 2]


def test_files_that_are_added_belong_to_the_version(index: World, corpus: Path, tmp_path: Path) -> None:
    """An index for a GPU is made beside the collection's own, from the vectors that are already there."""

    def add(folder: Path, progress: object) -> None:
        assert (folder / "vectors.npy").is_file()
        (folder / "gpu.faiss").write_bytes(b"an index")

    index(corpus, tmp_path / "out", also_index=add)
    collection = Collection.open(tmp_path / "out")
    assert collection.manifest.files["000001/gpu.faiss"].size == len(b"an index")
    assert (collection.folder / "000001" / "gpu.faiss").read_bytes() == b"an index"
