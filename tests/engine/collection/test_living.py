"""Documents come and go: whatever the order of changes, a collection answers as one that is built at once of what is
left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine.collection import Collection, Document, IndexSettings, ModelRecord, checking, merging
from tandem.engine.collection.corpus import of_documents
from tandem.engine.collection.filters import parse
from tandem.engine.collection.making import SegmentMaker
from tandem.engine.collection.manifest import SegmentRecord
from tandem.engine.collection.merge_policy import MANY, due
from tandem.engine.collection.merging import merge
from tandem.engine.collection.passage_text import PassageText
from tandem.engine.collection.prepare import Preparer
from tandem.engine.collection.report import silent
from tandem.engine.collection.republish import republish
from tandem.engine.collection.updating import add, delete
from tandem.engine.collection.versions import read_current, writer_lock
from tandem.engine.errors import CorpusError, InputError, StorageError
from tandem.engine.platform.durable_io import sha256
from tandem.engine.recall import Index, IndexPlan
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

from .conftest import World, contents, encode, write_jsonl
from .test_versions import Disk, fresh

WORDS = ["key", "lock", "door", "river", "bank", "wind", "rain"]
LONG = 60
"""Sentences of a document that is split."""


def never(batch: TokenBatch) -> np.ndarray:
    raise AssertionError("a passage was encoded")


class Living:
    """A collection, and what it should hold in the order in which it came."""

    def __init__(self, index: World, root: Path, tokenizer: Tokenizer, seed: int = 0) -> None:
        self.index = index
        self.root = root
        self.random = random.Random(seed)
        self.documents: dict[str, Document] = {}
        settings = IndexSettings(shard_size=4)
        preparer = Preparer(tokenizer, PassageText(tokenizer, settings.rerank_title), settings)
        self.maker = SegmentMaker(encode, tokenizer, preparer, settings)

    def document(self, name: str) -> Document:
        count = LONG if self.random.random() < 0.1 else self.random.randint(1, 3)
        text = " ".join(f"the {self.random.choice(WORDS)} is by the {self.random.choice(WORDS)}." for _ in range(count))
        return Document(name, self.random.choice(["", "the wind"]), text, {"room": self.random.randint(0, 4)})

    def some(self, most: int) -> list[Document]:
        names = self.random.sample(range(60), self.random.randint(1, most))
        return [self.document(f"d{name}") for name in names]

    def hold(self, documents: Iterable[Document]) -> None:
        for document in documents:
            if self.documents.get(document.id) != document:
                self.documents.pop(document.id, None)
                self.documents[document.id] = document

    def write(self, path: Path) -> Path:
        rows = [
            {"_id": each.id, "title": each.title, "text": each.text, **each.metadata}
            for each in self.documents.values()
        ]
        return write_jsonl(path, rows)

    # What may happen.

    def add(self) -> None:
        documents = self.some(9)
        add(Collection.open(self.root), of_documents(documents), self.maker)
        self.hold(documents)

    def add_again(self) -> None:
        some = self.random.sample(list(self.documents.values()), min(3, len(self.documents)))
        if some:
            report, _ = add(Collection.open(self.root), of_documents(some), self.maker)
            assert (report.unchanged, report.added, report.replaced) == (len(some), 0, 0)

    def delete(self) -> None:
        names = self.random.sample(range(60), 8)
        report, _ = delete(self.root, [f"d{name}" for name in names])
        known = [f"d{name}" for name in names if f"d{name}" in self.documents]
        assert (report.deleted, report.missing) == (len(known), 8 - len(known))
        for name in known:
            del self.documents[name]

    def delete_found(self) -> None:
        room = self.random.randint(0, 4)
        delete(self.root, filters=parse({"room": room}))
        self.documents = {name: each for name, each in self.documents.items() if each.metadata["room"] != room}

    def merge(self) -> None:
        merge(self.root)
        assert due(Collection.open(self.root).manifest.segments) is None

    def merge_whole(self) -> None:
        merge(self.root, whole=True)
        opened = Collection.open(self.root)
        assert len(opened.segments) <= 1
        assert opened.live is None

    def index_again(self) -> None:
        """The corpus as it should be, a little changed."""
        documents = [*self.some(4)]
        self.hold(documents)
        if len(self.documents) > 5:
            del self.documents[self.random.choice(list(self.documents))]
        self.index(self.write(self.root.with_name("corpus.jsonl")), self.root)

    def check(self) -> None:
        found = Collection.open(self.root)
        assert found.manifest.counts.documents == len(self.documents)
        if not self.documents:
            scores, rows = found.index.search(encode_text(self.maker.tokenizer, "the key"), 5)
            assert (scores.shape, rows.shape, len(found)) == ((1, 0), (1, 0), 0)
            return
        whole = self.root.with_name("whole")
        shutil.rmtree(whole, ignore_errors=True)
        self.index(self.write(self.root.with_name("at-once.jsonl")), whole)
        assert_alike(found, Collection.open(whole), self.random, self.maker.tokenizer)


def encode_text(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return encode(tokenizer.encode_many([text]))


def assert_alike(found: Collection, whole: Collection, chance: random.Random, tokenizer: Tokenizer) -> None:
    """Two collections of the same documents, one built at once."""
    assert len(found) == len(whole)
    live = np.arange(found.rows) if found.live is None else found.live.rows
    every = np.arange(whole.rows)
    # Rows are in the order in which documents came, in both.
    columns: list[Any] = ["ids", "texts", "titles", "metadata", "places"]
    for column in columns:
        assert getattr(found, column)(live) == getattr(whole, column)(every)
    assert found.tokens(live).ids.tolist() == whole.tokens(every).ids.tolist()
    np.testing.assert_array_equal(found.index.vectors[live], whole.index.vectors)
    for _ in range(3):
        question = f"the {chance.choice(WORDS)} {chance.choice(WORDS)}"
        vector = encode_text(tokenizer, question)
        k = chance.choice([1, 5, 1000])
        room = parse({"room": chance.randint(0, 4)})
        for filters in (None, room):
            sides = []
            for side in (found, whole):
                allowed = None if filters is None else rows_of(side, filters)
                scores, rows = side.index.search(vector, k, allowed)
                words = side.lexical.search(question, k, allowed)
                sides.append((side.ids(rows[0]), scores[0].tolist(), sorted(side.ids(words[0]))))
                # Words that a deleted passage holds count until it is merged away: shares differ, the passages do not.
                if found.live is None:
                    sides[-1] += (words[1].tolist(),)
            if found.live is not None and k != 1000:
                sides = [side[:2] for side in sides]
            assert sides[0] == sides[1]


def rows_of(collection: Collection, filters: Any) -> Any:
    steps = collection.filtered.steps(filters)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def living(index: World, tmp_path: Path, tokenizer: Tokenizer) -> Living:
    made = Living(index, tmp_path / "out", tokenizer)
    made.hold(made.some(20))
    index(made.write(tmp_path / "corpus.jsonl"), made.root)
    return made


OPERATIONS = int(os.environ.get("TANDEM_OPERATIONS", "48"))
"""Over all seeds; `make soak` asks for more."""


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_it_answers_as_one_built_at_once(living: Living, seed: int) -> None:
    living.random.seed(seed)
    steps = ["add", "add", "add_again", "delete", "delete_found", "merge", "merge_whole", "index_again"]
    for step in range(OPERATIONS // 4):
        getattr(living, living.random.choice(steps))()
        if step % 3 == 2:
            living.check()


def test_indexing_again_encodes_what_is_new_and_drops_what_is_gone(index: World, corpus: Path, tmp_path: Path) -> None:
    index(corpus, tmp_path / "out")
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    rows[3]["n"] = 77  # metadata alone: the passage is another one
    rows[4]["text"] = "the wind is new."
    write_jsonl(corpus, [*rows[:1], *rows[2:], {"_id": "more", "text": "the rain is more."}])
    read: list[int] = []

    def counting(batch: TokenBatch) -> np.ndarray:
        read.append(len(batch))
        return encode(batch)

    report = index(corpus, tmp_path / "out", encode=counting)
    assert (report.documents, report.kept, report.removed, report.encoded) == (11, 8, 3, 3)
    assert sum(read) == 3
    collection = Collection.open(tmp_path / "out")
    assert collection.metadata([collection.row_of("d3")]) == [{"n": 77}]
    assert collection.texts([collection.row_of("d4")]) == ["the wind is new."]
    with pytest.raises(InputError, match="no passage"):
        collection.row_of("d1")
    assert index(corpus, tmp_path / "out", encode=never).unchanged


def test_the_same_documents_in_another_order_are_no_change(index: World, corpus: Path, tmp_path: Path) -> None:
    first = index(corpus, tmp_path / "out")
    corpus.write_text("".join(reversed(corpus.read_text().splitlines(keepends=True))))
    report = index(corpus, tmp_path / "out", encode=never)
    assert (report.unchanged, report.version) == (True, first.version)


def test_other_settings_encode_all_of_it_again(index: World, corpus: Path, tmp_path: Path) -> None:
    first = index(corpus, tmp_path / "out")
    report = index(corpus, tmp_path / "out", settings=IndexSettings(encode_title=False))
    assert (report.kept, report.encoded, report.segments) == (0, first.passages, 1)


def test_equal_passages_are_encoded_once(index: World, tmp_path: Path) -> None:
    rows = [{"_id": f"d{n}", "text": ("the key", "the lock")[n % 2]} for n in range(40)]
    read: list[int] = []

    def counting(batch: TokenBatch) -> np.ndarray:
        read.append(len(batch))
        return encode(batch)

    index(write_jsonl(tmp_path / "c.jsonl", rows), tmp_path / "out", encode=counting, settings=IndexSettings())
    assert sum(read) == 2
    vectors = Collection.open(tmp_path / "out").index.vectors
    assert (vectors[::2] == vectors[0]).all()
    assert (vectors[1::2] == vectors[1]).all()


def test_an_interruption_inside_a_shard_loses_a_step(
    index: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.engine.collection.encoding.STEP", 3)
    monkeypatch.setattr("tandem.engine.collection.encoding.KEEP_SECONDS", 0.0)
    rows = [{"_id": f"d{n}", "text": f"the {WORDS[n % 7]} {n}"} for n in range(20)]
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    read: list[int] = []

    def stopping(batch: TokenBatch) -> np.ndarray:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(len(batch))
        return encode(batch)

    with pytest.raises(KeyboardInterrupt):
        index(corpus, tmp_path / "out", encode=stopping, settings=IndexSettings())
    kept = next((tmp_path / "out" / "staging").rglob("*.part"))
    again = shutil.copytree(tmp_path / "out", tmp_path / "damaged")
    read.clear()
    index(corpus, tmp_path / "out", encode=lambda batch: read.append(len(batch)) or encode(batch),
          settings=IndexSettings())  # fmt: skip
    assert sum(read) == 20 - 12
    index(corpus, tmp_path / "whole", settings=IndexSettings())
    folders = [Collection.open(tmp_path / name).folder for name in ("out", "whole")]
    assert contents(folders[0]) == contents(folders[1])
    # What is damaged of it is made again.
    part = again / kept.relative_to(tmp_path / "out")
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    read.clear()
    index(corpus, again, encode=lambda batch: read.append(len(batch)) or encode(batch), settings=IndexSettings())
    assert sum(read) == 20


def test_documents_that_cannot_be_added_add_nothing(living: Living) -> None:
    before = Collection.open(living.root).version
    twice = [Document("new", "", "the key"), Document("new", "", "the lock")]
    with pytest.raises(CorpusError, match="document 1: the id 'new' occurs a second time"):
        add(Collection.open(living.root), of_documents(twice), living.maker)
    with pytest.raises(CorpusError, match="has no text"):
        add(Collection.open(living.root), of_documents([Document("new", "", " ")]), living.maker)
    living.hold([Document("long", "", "the key is by the lock. " * LONG, {"room": 0})])
    add(Collection.open(living.root), of_documents(list(living.documents.values())), living.maker)
    with pytest.raises(CorpusError, match="two passages have the id 'long#2'"):
        add(Collection.open(living.root), of_documents([Document("long#2", "", "the key")]), living.maker)
    found = Collection.open(living.root)
    assert found.version != before
    assert len(found.document_rows("long")) > 2
    assert not len(found.document_rows("new"))
    assert not len(found.document_rows("long#2"))


def test_a_collection_may_lose_and_regain_everything(living: Living) -> None:
    report, _ = delete(living.root, list(living.documents))
    assert (report.documents, report.passages, report.missing) == (0, 0, 0)
    living.documents.clear()
    living.check()
    assert Collection.open(living.root).segments == ()
    living.add()
    living.check()


def test_what_nobody_changed_is_not_published(living: Living) -> None:
    version = Collection.open(living.root).version
    assert delete(living.root, ["nobody"])[0].missing == 1
    living.add_again()
    assert merge(living.root).merges == 0
    assert Collection.open(living.root).version == version
    assert not (living.root / "staging").exists()


def test_a_reader_keeps_what_it_opened(living: Living, tokenizer: Tokenizer) -> None:
    reader = Collection.open(living.root)
    texts = reader.texts(range(reader.rows))
    for _ in range(3):
        delete(living.root, list(living.documents)[:4])
        living.documents = dict(list(living.documents.items())[4:])
        living.add()
        living.merge_whole()
    assert reader.texts(range(reader.rows)) == texts
    reader.index.search(encode_text(tokenizer, "the key"), 5)
    reader.lexical.search("the key", 5)


def test_what_is_open_is_not_read_again(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Collection.open(living.root)
    living.add()
    delete(living.root, [next(iter(living.documents))])
    hashed: list[str] = []
    monkeypatch.setattr(checking, "sha256", lambda file: hashed.append(file.parent.name) or sha256(file))
    after = Collection.open(living.root, before=before)
    first, second = after.segments
    assert first.index is before.segments[0].index
    assert set(hashed) == {second.folder.name, first.folder.name}
    assert hashed.count(first.folder.name) == 1, "its marks alone"


def test_a_version_of_one_folder_is_read_and_goes_on(living: Living) -> None:
    """Format 2: the files of the only segment lie in the version's own folder."""
    root = living.root
    folder = Collection.open(root).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    (segment,) = manifest.pop("segments")
    for file in (folder / segment["name"]).iterdir():
        file.rename(folder / file.name)
    (folder / segment["name"]).rmdir()
    (folder / "contents.npy").unlink()
    del segment["files"]["contents.npy"]
    for name in ("corpus", "similarity"):
        del manifest[name]
    data = json.dumps(manifest | {"format": 2, "index": segment["index"], "files": segment["files"]}).encode()
    (folder / "manifest.json").write_bytes(data)
    pointer = {"version": folder.name, "manifest_sha256": hashlib.sha256(data).hexdigest()}
    (root / "CURRENT").write_text(json.dumps(pointer))
    living.check()
    living.add()
    living.check()
    living.merge_whole()
    living.check()
    # What it has no hash of is taken for changed, and comes last.
    living.index(living.write(root.with_name("corpus.jsonl")), root)
    living.index(root.with_name("corpus.jsonl"), root.with_name("once"))
    assert state(root) == state(root.with_name("once"))


def test_a_merge_is_of_no_use_when_its_segments_are_tokenised_anew_meanwhile(
    living: Living, other_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments keep their names, and what was merged has the ids of the tokenizer before."""
    living.add()
    write = merging._write

    def tokenised_meanwhile(*arguments: Any) -> Any:
        made = write(*arguments)
        with writer_lock(living.root):
            current = read_current(living.root)
            if current.models.reranker.name != "other":
                record = ModelRecord(name="other", fingerprint="o" * 64, path="../other")
                models = current.models.model_copy(update={"reranker": record})
                republish(living.root, current, models, PassageText(other_tokenizer, titled=True), "english", silent)
        return made

    monkeypatch.setattr(merging, "_write", tokenised_meanwhile)
    merge(living.root, whole=True)
    found = Collection.open(living.root)
    assert len(found.segments) == 1
    titles, texts = found.titles(range(found.rows)), found.texts(range(found.rows))
    expected = PassageText(other_tokenizer, titled=True).encode(titles, texts)
    assert found.tokens(range(found.rows)).ids.tolist() == expected.ids.tolist()


def test_a_change_searches_no_index_that_an_engine_may_be_searching(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Collection.open(living.root)
    searched: list[Index] = []
    search = Index.search
    monkeypatch.setattr(Index, "search", lambda self, *asked: searched.append(self) or search(self, *asked))
    _, after = add(before, of_documents([Document("new", "", "the key")]), living.maker)
    delete(living.root, ["new"], before=after)
    assert searched == [after.segments[-1].index]
    assert after.segments[0].index is before.segments[0].index


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["add", "delete", "merge"])
def test_a_crash_at_every_operation_leaves_the_old_state_or_the_new(
    living: Living, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    for _ in range(2):
        living.add()
    new = Document("d1", "", "the crash", {"room": 9})
    gone = [*living.documents][:3]
    changes: dict[str, Callable[[Path], object]] = {
        "add": lambda root: add(Collection.open(root), of_documents([new]), living.maker),
        "delete": lambda root: delete(root, gone),
        "merge": lambda root: merge(root, whole=True),
    }
    old = state(living.root)
    counting = Disk(None)
    with counting.watched(monkeypatch):
        changes[what](fresh(living.root, "counted"))
    after = state(living.root.with_name("counted"))
    assert (old == after) == (what == "merge")
    for number in range(len(counting.operations)):
        root = fresh(living.root, "crashed")
        with Disk(number, when, Crash()).watched(monkeypatch), pytest.raises(Crash):
            changes[what](root)
        assert state(root) in (old, after)
        with Disk(number, error=OSError(28, "No space left on device")).watched(monkeypatch), suppress(StorageError):
            changes[what](root)
        assert state(root) in (old, after)
        changes[what](root)
        assert state(root) == after
        assert {each.name for each in root.iterdir()} <= {"CURRENT", "versions", "writer.lock", "merge.lock"}
        shutil.rmtree(root)


def state(root: Path) -> dict[str, str]:
    """The text of every passage that is found."""
    found = Collection.open(root)
    live = np.arange(found.rows) if found.live is None else found.live.rows
    return dict(zip(found.ids(live), found.texts(live), strict=True))


def segments(*sizes: tuple[int, int]) -> list[SegmentRecord]:
    plan = IndexPlan(kind="flat", reason="")
    return [
        SegmentRecord(name=f"{n}", documents=size, passages=size, deleted=deleted, index=plan, files={})
        for n, (size, deleted) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [
        ([], None),
        ([(10, 0)], None),
        ([(10, 2)], None),
        ([(10, 3)], slice(0, 1)),
        ([(10**6, 0), *[(10, 0)] * 7], None),
        ([(10**6, 0), *[(10, 0)] * 8], slice(1, 9)),
        ([(10**6, 0), (1000, 900), *[(10, 0)] * 3], slice(1, 2)),
        # Small ones before a large one wait for their class: neighbours only.
        ([*[(10, 0)] * 5, (10**6, 0), *[(10, 0)] * 5], None),
        ([(10**6, 0), *[(8000, 0)] * 6, *[(10, 0)] * 2], None),
        ([(10**6, 0), *[(8000, 0)] * 8, *[(10, 0)] * 2], slice(1, 11)),
    ],
)
def test_which_segments_become_one(sizes: list[tuple[int, int]], merged: slice | None) -> None:
    assert due(segments(*sizes)) == merged


def test_additions_leave_few_segments(index: World, corpus: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    living = Living(index, tmp_path / "out", tokenizer)
    living.hold(living.some(5))
    index(living.write(corpus), living.root)
    written = 0
    for _ in range(30):
        living.add()
        written += merge(living.root).passages
        assert len(Collection.open(living.root).segments) <= MANY
    assert written < 30 * len(Collection.open(living.root)), "a passage is not written anew each time"
    living.check()
