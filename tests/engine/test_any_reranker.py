"""Any cross-encoder searches any collection, and finds what a collection that was indexed with it finds."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import ArtifactError, Collection, CollectionError, Engine, InputError
from tandem.engine.build.beir import read_judged
from tandem.engine.build.calibrate import calibrate
from tandem.engine.build.indexing import index_corpus
from tandem.engine.build.retokenize import retokenize
from tandem.engine.collection import IndexSettings
from tandem.engine.collection.passage_text import PassageText, text_before
from tandem.engine.collection.token_files import TOKEN_FILES
from tandem.engine.models.artifact import Artifact, PairText
from tandem.engine.scoring.effort import ENOUGH, EVERYTHING
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.search.passage_ids import IdsAsRead, StoredIds, unstored
from tandem.export.parity.samples import docstrings

QUESTIONS = ("how to sort a list of words", "write bytes to a file", "the time zone of a date", "thread lock")
OPENED = dict(
    device="cpu", warm_up=False, reranker_precision="fp32", recall_weight=2.0, lexical_weight=3.0, early_exit=False
)
Index = Callable[[str, Path | None], Path]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path) -> Index:
    """A collection with a reranker (or None), over documents so short that every pair of models keeps them whole."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        {"_id": f"d{n}", "title": text.split()[0], "text": " ".join(text.split()[1:])[:60]}
        for n, text in enumerate(docstrings()[100:160])
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(name: str, reranker: Path | None) -> Path:
        index_corpus(folder / "corpus.jsonl", folder / name, encoder=tiny_bi_encoder, reranker=reranker)
        return folder / name

    return run


@pytest.fixture(scope="module")
def collection(index: Index, tiny_cross_encoder: Path) -> Path:
    """Indexed with `tiny_cross_encoder`; tests leave it as it is."""
    return index("shared", tiny_cross_encoder)


def found(collection: Path, reranker: Path | None = None, **settings: object) -> list[list[tuple]]:
    """Every hit of each question with all its scores, to the last bit."""
    with Engine.open(collection, reranker=reranker, **OPENED | settings) as engine:
        return [
            [(hit.id, hit.score, hit.rerank_score, hit.lexical_score, hit.recall_score) for hit in result.hits]
            for result in (
                engine.search(question, top_k=60, budget_ms=None, depth=EVERYTHING) for question in QUESTIONS
            )
        ]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What opening an engine said of its reranker."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("tandem.engine.search")]


def test_the_stored_ids_serve_every_model_of_their_tokenizer(
    index: Index, collection: Path, sibling_cross_encoder: Path, caplog: pytest.LogCaptureFixture
):
    with Engine.open(collection, reranker=sibling_cross_encoder, **OPENED) as engine:
        assert isinstance(engine.passages, StoredIds)
    assert not told(caplog)
    assert found(collection, sibling_cross_encoder) == found(index("sibling", sibling_cross_encoder))
    assert found(collection, sibling_cross_encoder) != found(collection), "the weights are others"


@pytest.mark.parametrize("own", ["another", "none"])
def test_passages_are_tokenised_as_they_are_read_for_another_tokenizer(
    index: Index, tiny_cross_encoder: Path, other_cross_encoder: Path, own: str, caplog: pytest.LogCaptureFixture
):
    there = index(f"with-{own}", None if own == "none" else tiny_cross_encoder)
    with caplog.at_level(logging.WARNING), Engine.open(there, reranker=other_cross_encoder, **OPENED) as engine:
        assert isinstance(engine.passages, IdsAsRead)
        first = engine.search(QUESTIONS[0], budget_ms=None)
        again = engine.search(QUESTIONS[0], budget_ms=None)
        assert engine.search(QUESTIONS[0], budget_ms=0.001).reranked == 0, "tokenising is inside the budget"
    assert (first.reranked, first.degraded) == (ENOUGH, None)
    assert first.timings.tokenize > 0
    assert first.hits == again.hits, "ids that were kept are the same ids"
    said = told(caplog)
    assert len(said) == 1, "said once, when it opens"
    assert f"(tandem retokenize {there} --reranker {other_cross_encoder})" in said[0]
    assert found(there, other_cross_encoder) == found(index("other", other_cross_encoder))


def test_many_searches_at_once_find_the_same(collection: Path, other_cross_encoder: Path):
    with Engine.open(collection, reranker=other_cross_encoder, **OPENED) as engine:
        alone = [[(hit.id, round(hit.score, 4)) for hit in engine.search(q, budget_ms=None).hits] for q in QUESTIONS]
    with Engine.open(collection, reranker=other_cross_encoder, **OPENED) as engine:
        answers: dict[str, list] = {}
        threads = [
            threading.Thread(target=lambda q=question: answers.update({q: engine.search(q, budget_ms=None).hits}))
            for question in QUESTIONS
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [[(hit.id, round(hit.score, 4)) for hit in answers[question]] for question in QUESTIONS] == alone


def test_stored_passages_are_reranked_by_their_ids(collection: Path, other_cross_encoder: Path):
    with Engine.open(collection, reranker=other_cross_encoder, **OPENED) as engine:
        rows = range(5)
        names = engine.collection.ids(rows)
        texts = [
            f"{title} {text}"
            for title, text in zip(engine.collection.titles(rows), engine.collection.texts(rows), strict=True)
        ]
        by_id = {each.id: each.score for each in engine.rerank(QUESTIONS[0], ids=names)}
        by_text = {names[each.index]: each.score for each in engine.rerank(QUESTIONS[0], texts)}
    assert by_id == by_text


def test_a_collection_is_tokenised_anew_without_anything_else(
    index: Index, tmp_path: Path, tiny_cross_encoder: Path, other_cross_encoder: Path
):
    there = index("anew", tiny_cross_encoder)
    before, as_read = Collection.open(there), found(there, other_cross_encoder)
    steps: list[tuple[int, int | None, str]] = []
    report = retokenize(there, other_cross_encoder, progress=lambda *step: steps.append(step))
    after, indexed = Collection.open(there), Collection.open(index("other", other_cross_encoder))
    assert (report.passages, report.unchanged, report.version) == (60, False, after.version)
    assert (60, 60, "tokenising") in steps
    assert after.manifest.parent == before.version
    (then,), (now,) = before.segments, after.segments
    changed = {name for name in now.record.files if not (now.folder / name).samefile(then.folder / name)}
    assert changed == TOKEN_FILES
    for name in TOKEN_FILES:
        assert (now.folder / name).read_bytes() == (indexed.segments[0].folder / name).read_bytes()
    with Engine.open(there, **OPENED) as engine:
        assert isinstance(engine.passages, StoredIds)
        assert engine.reranker.artifact.path.samefile(other_cross_encoder)
    assert found(there) == as_read == found(indexed.path)
    assert retokenize(there, other_cross_encoder).unchanged
    assert Collection.open(there).version == after.version


def test_the_reranker_alone_changes_where_the_tokenizer_is_the_same(
    index: Index, tiny_cross_encoder: Path, sibling_cross_encoder: Path
):
    there = index("relabelled", tiny_cross_encoder)
    before = Collection.open(there)
    report = retokenize(there, sibling_cross_encoder)
    after = Collection.open(there)
    assert (report.passages, report.unchanged) == (0, False)
    assert all((after.folder / name).samefile(before.folder / name) for name in before.manifest.files)
    assert found(there) == found(index("sibling", sibling_cross_encoder))


def test_a_collection_without_a_reranker_gets_one(index: Index, other_cross_encoder: Path):
    there = index("gets-one", None)
    with pytest.raises(CollectionError, match="tandem retokenize"):
        Collection.open(there).tokens([0])
    retokenize(there, other_cross_encoder)
    assert found(there) == found(index("other", other_cross_encoder))


def test_indexing_as_before_gives_the_ids_back_and_encodes_nothing(
    index: Index, tiny_cross_encoder: Path, other_cross_encoder: Path
):
    there = index("and-back", tiny_cross_encoder)
    vectors = (Collection.open(there).segments[0].folder / "vectors.npy").stat().st_ino
    expected = found(there)
    retokenize(there, other_cross_encoder)
    index("and-back", tiny_cross_encoder)
    assert (Collection.open(there).segments[0].folder / "vectors.npy").stat().st_ino == vectors
    assert found(there) == expected


def test_what_cannot_be_retokenised_is_told_in_a_sentence(
    tmp_path: Path, collection: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
):
    with pytest.raises(CollectionError, match="is not a folder; make one with"):
        retokenize(tmp_path / "nowhere", tiny_cross_encoder)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ArtifactError, match="holds a bi-encoder, but a cross-encoder is needed"):
        retokenize(collection, tiny_bi_encoder)
    with pytest.raises(ArtifactError, match="is not a folder"):
        Engine.open(collection, reranker=tmp_path / "absent", **OPENED)
    with pytest.raises(ArtifactError, match="holds a bi-encoder, but a cross-encoder is needed"):
        Engine.open(collection, reranker=tiny_bi_encoder, **OPENED)


def test_a_search_on_the_device_needs_the_stored_ids(
    tmp_path: Path, packable_bi_encoder: Path, packable_cross_encoder: Path, other_cross_encoder: Path
):
    index_corpus("python:json", tmp_path / "c", encoder=packable_bi_encoder, reranker=packable_cross_encoder)
    with pytest.raises(InputError, match="cannot run here: the stored token ids are another tokenizer's; `tandem reto"):
        Engine.open(tmp_path / "c", reranker=other_cross_encoder, runtime="onnx", pipeline="resident", device="cpu")


def test_weights_that_were_fitted_with_another_reranker_are_not_used(
    index: Index, tmp_path: Path, tiny_cross_encoder: Path, sibling_cross_encoder: Path,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    there = index("fitted", tiny_cross_encoder)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": QUESTIONS[0]}) + "\n")
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td3\t1\n")
    settings = dict(device="cpu", warm_up=False)
    assert read_judged(tmp_path).qrels
    with Engine.open(there, **settings) as engine:
        fitted = calibrate(engine, tmp_path, candidates=60).fusion
    with Engine.open(there, **settings) as engine:
        assert engine.fusion == fitted
    assert not told(caplog)
    with Engine.open(there, reranker=sibling_cross_encoder, **settings) as engine:
        assert engine.fusion == engine.reranker.artifact.manifest.fusion == Fusion()
        assert any("fitted with other models" in each for each in told(caplog))
        fitted = calibrate(engine, tmp_path, candidates=60).fusion
    with Engine.open(there, reranker=sibling_cross_encoder, **settings) as engine:
        assert engine.fusion == fitted


def test_passages_longer_than_a_reranker_reads_are_told_with_numbers(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, sibling_cross_encoder: Path,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    rows = [{"_id": f"d{n}", "text": "list " * (100 if n < 3 else 10)} for n in range(12)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IndexSettings(chunk_tokens=0)
    index_corpus(
        tmp_path / "corpus.jsonl", tmp_path / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder,
        settings=settings,
    )  # fmt: skip
    Engine.open(tmp_path / "c", **OPENED).close()
    assert not told(caplog), "the models it was indexed with were chosen so"
    Engine.open(tmp_path / "c", reranker=sibling_cross_encoder, **OPENED).close()
    said = told(caplog)
    assert len(said) == 1
    # 128 tokens less 3 special ones and 64 for the question.
    assert "reads 61 tokens" in said[0]
    assert "25 % of 12 passages looked at are longer (up to 100)" in said[0]


@pytest.fixture
def as_read(collection: Path, other_cross_encoder: Path) -> IdsAsRead:
    opened = Collection.open(collection)
    return IdsAsRead(
        opened, PassageText.of(Artifact.open(other_cross_encoder), opened.manifest.settings), "a test", kept=100
    )


def test_kept_ids_are_few_and_right(index: Index, as_read: IdsAsRead, other_cross_encoder: Path):
    stored = Collection.open(index("other", other_cross_encoder))
    random = np.random.default_rng(0)
    for size in (60, 1, 0, 7, 30, 5):
        rows = random.integers(0, 60, size)
        ours, theirs = as_read.tokens(rows), stored.tokens(rows)
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.cu_seqlens.tolist() == theirs.cu_seqlens.tolist()
        assert as_read._size == sum(map(len, as_read._known.values())) <= 100
    assert as_read.lexicon.frequencies.tolist() == stored.lexicon.frequencies.tolist()


def test_where_time_is_short_the_first_of_recall_are_tokenised_and_read(
    collection: Path, other_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    """A passage at a time, and the time for it is over with the seventh."""
    tokens, made = IdsAsRead.tokens, IdsAsRead._made
    with Engine.open(collection, reranker=other_cross_encoder, **OPENED) as engine:
        whole = engine.search(QUESTIONS[0], top_k=60, budget_ms=None, depth=EVERYTHING)
    with Engine.open(collection, reranker=other_cross_encoder, **OPENED) as engine:
        engine.passages._known.clear()  # some were read when it opened
        engine.passages._size = 0
        monkeypatch.setattr("tandem.engine.search.passage_ids.PART", 1)
        parts: list[dict[int, str]] = []
        monkeypatch.setattr(IdsAsRead, "_made", lambda self, part: parts.append(part) or made(self, part))
        monkeypatch.setattr("tandem.engine.search.passage_ids.monotonic", lambda: float(len(parts)))
        monkeypatch.setattr(IdsAsRead, "tokens", lambda self, rows, until=None: tokens(self, rows, until and 6.0))
        result = engine.search(QUESTIONS[0], top_k=60, budget_ms=10_000_000, depth=EVERYTHING)
    assert (result.candidates, result.reranked, result.degraded_code) == (60, 7, "fewer_candidates")
    assert "7 of 60 candidates were reranked in time" in result.degraded
    read = [hit for hit in result.hits if hit.rerank_score is not None]
    rest = [hit for hit in result.hits if hit.rerank_score is None]
    assert sorted(hit.recall_rank for hit in read) == list(range(1, 8))
    assert [hit.recall_rank for hit in rest] == list(range(8, 61)), "by what recall knows"
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    known = {hit.id: hit for hit in whole.hits}
    for hit in read:
        assert hit.rerank_score == pytest.approx(known[hit.id].rerank_score, abs=1e-5)
        assert (hit.lexical_score, hit.recall_rank) == (known[hit.id].lexical_score, known[hit.id].recall_rank)


def test_words_of_a_large_collection_are_weighed_by_some_of_it(as_read: IdsAsRead, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tandem.engine.search.passage_ids.COUNTED", 20)
    assert as_read.lexicon.passages == 20
    assert as_read.lexicon.frequencies.max() <= 20


@pytest.mark.parametrize(("middle", "before"), [("\n<Document>: ", " "), ("\nDocument:\n", ""), ("</q>", "")])
def test_blanks_before_the_passage_of_a_decoder_are_tokenised_with_it(
    tiny_cross_encoder: Path, middle: str, before: str
):
    manifest = Artifact.open(tiny_cross_encoder).manifest
    assert text_before(manifest) == ""
    pair = PairText(head="<q>", instruction=None, neck="", middle=middle, tail="</d>")
    assert text_before(manifest.model_copy(update={"pair_text": pair})) == before


def test_ids_older_than_their_record_are_those_of_the_model_they_were_indexed_with(
    collection: Path, tiny_cross_encoder: Path, sibling_cross_encoder: Path
):
    opened = Collection.open(collection)
    own, other = Artifact.open(tiny_cross_encoder), Artifact.open(sibling_cross_encoder)
    text = PassageText.of(own, opened.manifest.settings)
    older = opened.manifest.model_copy(update={"tokenized": None})
    assert older.has_ids_of(text.source, own.fingerprint)
    assert not older.has_ids_of(text.source, other.fingerprint)
    blank = PassageText(text.tokenizer, text.titled, before=" ")
    assert not older.has_ids_of(blank.source, own.fingerprint)
    assert not opened.manifest.has_ids_of(blank.source, own.fingerprint), "other text before passages is other ids"
    assert unstored(opened, text, other) is None
    # A newer tokenizers library may write the same tokenizer down in another way; its artifact is known all the same.
    renamed = opened.manifest.model_copy(update={"tokenized": text.source.model_copy(update={"tokenizer": "0" * 64})})
    assert renamed.has_ids_of(text.source, own.fingerprint)


def test_a_passage_without_end_has_the_ids_that_would_be_stored(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, other_cross_encoder: Path
):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "long", "text": "a word or two. " * 2000}) + "\n")
    index_corpus(
        tmp_path / "corpus.jsonl", tmp_path / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder,
        settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
    with Engine.open(tmp_path / "c", reranker=other_cross_encoder, **OPENED) as engine:
        as_read = engine.search("a word", budget_ms=None).hits[0]
        made = engine.passages.tokens([0]).ids.tolist()
    retokenize(tmp_path / "c", other_cross_encoder)
    with Engine.open(tmp_path / "c", **OPENED) as engine:
        assert engine.search("a word", budget_ms=None).hits[0].rerank_score == as_read.rerank_score
        assert engine.passages.tokens([0]).ids.tolist() == made
