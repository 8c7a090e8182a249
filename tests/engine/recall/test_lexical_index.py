"""The lexical index against BM25 written out, under filters against brute force, and on a disk that is only read."""

from __future__ import annotations

import math
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.errors import CollectionError
from tandem.engine.recall import LexicalIndex, RowMask, lexical_index
from tandem.engine.recall.lexical_index import CHARACTERS, K1, TERMS, B, LexicalWriter
from tandem.engine.recall.words import LANGUAGES, WITHOUT_STOP_WORDS, Language, analyser, of_ids

Build = Callable[..., LexicalIndex]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    made = 0

    def built(texts: Sequence[str], language: Language = "english") -> LexicalIndex:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        folder.mkdir()
        writer = LexicalWriter(folder, language, 100)
        for text in texts:
            writer.append(text)
        writer.close()
        return LexicalIndex.open([folder], language)

    return built


def slow_shares(query: Sequence[str], passages: Sequence[Sequence[str]]) -> np.ndarray:
    """BM25 of each passage by the words it is cut into, divided by the most there is."""
    mean = sum(map(len, passages)) / len(passages)
    rarity = {}
    for word in set(query):
        holding = sum(word in passage for passage in passages)
        rarity[word] = math.log(1 + (len(passages) - holding + 0.5) / (holding + 0.5))
    shares = []
    for passage in passages:
        norm = K1 * (1 - B + B * len(passage) / max(mean, 1e-9))
        parts = [rarity[word] * passage.count(word) / (passage.count(word) + norm) for word in rarity]
        shares.append(sum(parts) / max(sum(rarity.values()), 1e-9))
    return np.array(shares)


words = st.sampled_from([f"w{number}" for number in range(9)])
# Up to 40 words tantivy keeps a passage's length exactly; beyond, to five significant bits.
passages_of_words = st.lists(st.lists(words, max_size=40), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passages_of_words, st.lists(words, max_size=6), st.integers(1, 40))
def test_shares_are_bm25_counted_word_by_word(build: Build, passages: list[list[str]], query: list[str], k: int):
    index = build([" ".join(passage) for passage in passages])
    rows, shares = index.search(" ".join(query), k)
    expected = slow_shares(query, passages)
    holding = np.flatnonzero(expected > 0)
    assert len(rows) == min(k, len(holding))
    np.testing.assert_allclose(shares, expected[rows], atol=1e-5)
    np.testing.assert_allclose(shares, np.sort(expected)[::-1][: len(rows)], atol=1e-5)
    assert list(zip(-shares, rows, strict=True)) == sorted(zip(-shares, rows, strict=True))


@pytest.mark.parametrize("few", [0, 10_000], ids=["widening", "one by one"])
def test_a_filter_is_honoured_as_brute_force_honours_it(build: Build, monkeypatch: pytest.MonkeyPatch, few: int):
    monkeypatch.setattr(lexical_index, "FEW", few)
    random = np.random.default_rng(0)
    passages = [[f"w{word}" for word in random.zipf(1.6, random.integers(1, 40)) if word < 500] for _ in range(400)]
    index = build([" ".join(passage) for passage in passages])
    for _ in range(40):
        query = [f"w{word}" for word in random.zipf(1.6, 4) if word < 500]
        mask = random.random(400) < random.choice([0.0, 0.003, 0.05, 0.5, 1.0])
        rows, shares = index.search(" ".join(query), 12, RowMask(mask))
        expected = np.where(mask, slow_shares(query, passages), 0.0)
        assert mask[rows].all()
        best = np.sort(expected[expected > 0])[::-1][:12]
        np.testing.assert_allclose(shares, best, atol=1e-5)


def test_filtered_words_that_are_all_elsewhere_are_found_in_the_end(build: Build, monkeypatch: pytest.MonkeyPatch):
    """The best by words are none of the allowed ones: the search goes on until it has them."""
    monkeypatch.setattr(lexical_index, "FEW", 0)
    index = build(["reset key key"] * 300 + ["reset it some other day, by hand"] * 20 + ["nothing"] * 100)
    allowed = RowMask(np.arange(420) >= 300)
    assert index.search("reset key", 20, allowed)[0].tolist() == list(range(300, 320))
    assert len(index.search("key", 20, allowed)[0]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "the of and",
        "\0\x01\x7f",
        '"',
        "row:1",
        "words:(a OR",
        "+a -b ^2 ~",
        "[* TO *]",
        "NOT *",
        "日本語",
        "\u202e",
    ],
)
def test_no_text_is_a_query_language(build: Build, text: str):
    index = build(["a passage of words", "rows TO go"])
    rows, shares = index.search(text, 5)
    assert len(rows) == len(shares) <= 2


def test_a_text_of_thousands_of_words_looks_for_its_rarest(build: Build):
    common = [f"common{number}" for number in range(200)]
    index = build([" ".join(common)] * 30 + [f"{' '.join(common)} rare{number}" for number in range(TERMS)])
    text = " ".join(["filler"] * 500 + common + [f"rare{number}" for number in range(TERMS)])
    rows, _ = index.search(text, 100)
    assert sorted(rows.tolist()) == list(range(30, 30 + TERMS))
    beyond = "x " * (CHARACTERS // 2) + "rare1"
    assert len(index.search(beyond, 5)[0]) == 0


def test_the_commonest_words_are_left_out_where_they_are_in_too_many(build: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lexical_index, "POSTINGS", 25)
    index = build(["common"] * 20 + ["common rare"] * 10)
    assert sorted(index.search("rare common", 30)[0].tolist()) == list(range(20, 30))
    assert len(index.search("common", 30)[0]) == 30  # one word at least


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_indexed_and_found(build: Build, language: Language):
    text = of_ids([17, 4, 99]) if language == "other" else "tandem 2026 x1 ключ clé Schlüssel مفتاح"
    index = build(["nothing", text], language)
    assert index.search(text, 5)[0].tolist() == [1]


@pytest.mark.parametrize("language", LANGUAGES[:-1])
def test_stop_words_are_left_out_where_tantivy_knows_them(language: Language):
    def stop_words() -> tantivy.TextAnalyzer:
        simple = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        return simple.filter(tantivy.Filter.stopword(language)).build()

    if language in WITHOUT_STOP_WORDS:
        with pytest.raises(ValueError, match="stop word"):
            stop_words()
    else:
        assert stop_words().analyze("tandem") == ["tandem"]
    assert analyser(language).analyze("Tandem") == analyser(language).analyze("TANDEM")


def test_endings_are_taken_off(build: Build):
    index = build(["Resetting the keys of an account", "an account"])
    assert index.search("how do I reset a key?", 5)[0].tolist() == [0]


def test_opening_and_searching_write_nothing(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The files may lie on a disk that is only read; what is opened through is gone again."""
    build(["one two", "two three"])
    folder, links = tmp_path / "1", tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(links))

    def state() -> dict[str, tuple[int, int, bytes]]:
        return {
            path.name: (path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode), path.read_bytes())
            for path in folder.iterdir()
        }

    before = state()
    folder.chmod(0o500)
    index = LexicalIndex.open([folder], "english")
    assert index.search("three", 5)[0].tolist() == [1]
    folder.chmod(0o700)
    assert state() == before
    assert not any(name.startswith(".") for name in before)
    assert not list(links.iterdir())
    assert index.search("two", 5)[0].tolist() == [0, 1]


def test_threads_search_at_once(build: Build):
    random = np.random.default_rng(0)
    index = build([" ".join(f"w{word}" for word in random.zipf(1.5, 30)) for _ in range(500)])
    questions = [f"w{number} w{number + 1}" for number in range(1, 30)]
    alone = [index.search(question, 10)[0].tolist() for question in questions]
    found: list[list[list[int]]] = []

    def ask() -> None:
        found.append([index.search(question, 10)[0].tolist() for question in questions])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4


def test_what_is_no_index_is_refused(tmp_path: Path):
    with pytest.raises(CollectionError, match="index again"):
        LexicalIndex.open([tmp_path], "english")
    (tmp_path / "lexical.meta.json").write_text("{}")
    with pytest.raises(CollectionError, match="index again"):
        LexicalIndex.open([tmp_path], "english")
