"""Filters: the language against a direct reading of it, and filtered search against brute force for every index."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import Engine, SearchResult
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, parse
from tandem.engine.collection.metadata_index import FACETS, MetadataIndex
from tandem.engine.collection.metadata_values import MetadataValues
from tandem.engine.collection.ragged import Ragged, encode_strings
from tandem.engine.errors import CollectionError, InputError
from tandem.engine.recall import Index, Plan, RowMask, build, exact
from tandem.engine.recall.index import VECTORS
from tandem.engine.text.tokens import cumulative

FIELDS = ("a", "b", "c.d", 'é"', "none")
SCALARS = (
    st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.0, 1e300, 2**60, 2**60 + 1])
    | st.sampled_from(["x", "xy", "y", "é", " ", 'a"b', "a\\b", "a\nb", "a", "ab", "漢", "😀", "\uffff", ""])
)  # fmt: skip
VALUES = SCALARS | st.none() | st.lists(SCALARS | st.none(), max_size=3)
METADATA = st.fixed_dictionaries(
    {}, optional={"a": VALUES, "b": VALUES, 'é"': VALUES, "c": st.fixed_dictionaries({"d": VALUES})}
)
ORDERED = SCALARS.filter(lambda value: not isinstance(value, bool))
CONDITIONS = st.one_of(
    SCALARS,
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED, min_size=1, max_size=2),
    st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=3)),
    st.builds(lambda wanted: {"$exists": wanted}, st.booleans()),
)
FILTERS = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), CONDITIONS, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=5,
)


def facets_of(rows: list[dict]) -> MetadataIndex:
    flat, lengths = encode_strings([json.dumps(row, ensure_ascii=False) if row else "" for row in rows])
    return MetadataIndex.of(Ragged(flat, cumulative(lengths)))


def values_of(row: dict, field: str) -> list:
    value = row
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return [each for each in values if each is not None]


def same_type(a, b) -> bool:
    kinds = [bool if isinstance(x, bool) else str if isinstance(x, str) else float for x in (a, b)]
    return kinds[0] is kinds[1]


def holds(row: dict, document: dict) -> bool:
    """The language read out loud, one passage at a time."""

    def test(values: list, operator: str, wanted) -> bool:
        if operator == "$exists":
            return bool(values) == wanted
        if operator in ("$in", "$nin"):
            return any(test(values, "$eq", each) for each in wanted) == (operator == "$in")
        if operator == "$ne":
            return not test(values, "$eq", wanted)
        compare = {
            "$eq": lambda v: v == wanted, "$gt": lambda v: v > wanted, "$gte": lambda v: v >= wanted,
            "$lt": lambda v: v < wanted, "$lte": lambda v: v <= wanted,
        }[operator]  # fmt: skip
        return any(same_type(value, wanted) and compare(value) for value in values)

    def entry(name: str, value) -> bool:
        if name in ("$and", "$or"):
            return (all if name == "$and" else any)(holds(row, part) for part in value)
        if name == "$not":
            return not holds(row, value)
        operators = value if isinstance(value, dict) else {"$eq": value}
        return all(test(values_of(row, name), operator, wanted) for operator, wanted in operators.items())

    return all(entry(name, value) for name, value in document.items())


@settings(max_examples=300)
@given(st.lists(METADATA, max_size=12), FILTERS)
def test_a_filter_means_what_it_says(rows: list[dict], document: dict):
    mask = parse(document).mask(facets_of(rows))
    assert mask.tolist() == [holds(row, document) for row in rows]
    assert parse(document) == parse(json.loads(json.dumps(document)))
    assert hash(parse(document)) == hash(parse(dict(document)))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "at least one field"),
        ([], "at least one field"),
        ({"a": {}}, "needs a value"),
        ({"a": None}, "needs a value"),
        ({"a": {"$eq": None}}, "needs a value"),
        ({"a": {"$regex": "secret"}}, "holds only"),
        ({"a": {"secret": 1}}, "holds only"),
        ({"a": {"$gt": True}}, "gt takes a text"),
        ({"a": {"$eq": ["secret"]}}, "eq takes a text"),
        ({"a": ["secret"]}, "eq takes a text"),
        ({"a": float("nan")}, "eq takes a text"),
        ({"a": {"$in": "secret"}}, "in takes a list"),
        ({"a": {"$in": [[1]]}}, "in takes a list"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"a": "secret" * 1000}, "at most 1000"),
        ({"$and": []}, "list of at least one"),
        ({"$or": {"a": 1}}, "list of at least one"),
        ({"$not": 1}, "at least one field"),
        ({"$secret": 1}, "only"),
        ({f"a{i}": 1 for i in range(MAX_CONDITIONS + 1)}, "more than 64 conditions"),
        ({f"a{i}": {"$gt": 1, "$lt": 2, "$ne": 3} for i in range(22)}, "each operator is one"),
        ({"a": {"$in": ["secret"] * (MAX_VALUES + 1)}}, "more than 1000 values in all"),
        ({"$or": [{"a": {"$in": ["x"] * 30}}, {"b": {"$nin": ["y"] * 971}}]}, "more than 1000 values in all"),
        ({"secret" * 200: 1}, "name of a field"),
    ],
)
def test_what_is_no_filter_is_refused_and_not_repeated(document: object, message: str):
    with pytest.raises(InputError, match=message) as caught:
        parse(document)
    assert "secret" not in str(caught.value)


def test_as_many_as_are_allowed_are_taken():
    values = list(range(MAX_VALUES))
    asked = parse({"$and": [{"a": {"$in": values}}, *({"a": {"$ne": value}} for value in range(MAX_CONDITIONS - 1))]})
    assert asked.conditions == MAX_CONDITIONS
    mask = asked.mask(facets_of([{"a": value} for value in range(2000)]))
    assert np.flatnonzero(mask).tolist() == values[MAX_CONDITIONS - 1 :]


@pytest.mark.parametrize("operator", ["$eq", "$ne", "$in", "$nin"])
def test_true_is_not_one(operator: str):
    """They are equal in Python, and what a filter leaves is remembered by what it asks for."""
    one, true, text = (
        parse({"a": {operator: [value] if operator.endswith("in") else value}}) for value in (1, True, "1")
    )
    assert len({one, true, text}) == 3
    assert len({asked.fingerprint for asked in (one, true, text)}) == 3


def test_a_field_with_half_a_character_is_nowhere():
    asked = parse({"\ud800": "a"})
    assert not asked.mask(facets_of([{"a": "x"}, {"é": "a"}])).any()
    assert asked.fingerprint


def test_nesting_is_bounded():
    document: dict = {"a": 1}
    for _ in range(MAX_DEPTH):
        document = {"$not": document}
    with pytest.raises(InputError, match="nested"):
        parse(document)


def test_written_facets_are_the_same_and_damage_is_told(tmp_path: Path):
    rows = [{"a": i % 7, "b": [f"t{i % 3}", i / 2]} for i in range(50)] + [{}]
    made = facets_of(rows)
    made.write(tmp_path)
    metadata = Ragged(*_texts(rows))
    opened = MetadataIndex.open(tmp_path, metadata)
    for document in ({"a": 3}, {"b": {"$gte": 10}}, {"b": "t1"}, {"a": {"$exists": False}}):
        assert parse(document).mask(opened).tolist() == [holds(row, document) for row in rows]
    (tmp_path / f"{FACETS}.npy").write_bytes(b"nonsense")
    with pytest.raises(CollectionError):
        MetadataIndex.open(tmp_path, metadata)


def _texts(rows: list[dict]):
    flat, lengths = encode_strings([json.dumps(row) if row else "" for row in rows])
    return flat, cumulative(lengths)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", params=["flat", "scan", "ivf", "ivf of old"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """5,000 clustered vectors in each kind of index."""
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(7)
    centres = random.standard_normal((20, 24))
    np.save(folder / VECTORS, unit(centres[random.integers(0, 20, 5000)] + 0.5 * random.standard_normal((5000, 24))))
    kind = request.param.partition(" ")[0]
    plan = Plan(kind=kind, reason="to be tested", lists=32 if kind == "ivf" else 0)
    queries = np.load(folder / VECTORS)[:50]
    built = build(folder, plan, queries, threads=1, progress=lambda *_: None)
    if request.param == "ivf of old":
        built = built.model_copy(update={"largest": 0.0, "residual": 0.0})
    return Index.open(folder, built, threads=1)


@pytest.mark.parametrize("few", [True, False], ids=["few", "by codes"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.4, 1.0])
def test_a_filtered_search_is_brute_force(index: Index, share: float, few: bool, monkeypatch: pytest.MonkeyPatch):
    if not few:
        monkeypatch.setattr("tandem.engine.recall.index.FEW", 0)
    random = np.random.default_rng(int(share * 1000))
    queries = unit(random.standard_normal((5, 24)))
    mask = random.random(5000) < share
    products = np.einsum("ij,kj->ik", queries.astype(np.float64), index.vectors.astype(np.float64)).astype(np.float32)
    products[:, ~mask] = -np.inf
    for k in (1, 30, 400):
        expected = np.argsort(-products, axis=1, kind="stable")[:, : min(k, int(mask.sum()))]
        scores, rows = index.search(queries, k, RowMask(mask))
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(scores, np.take_along_axis(products, expected, axis=1))
        alone = index.search(queries[:1], k, RowMask(mask))
        np.testing.assert_array_equal(alone[1][0], expected[0])


def test_a_filter_against_the_query_finds_what_is_far_away(index: Index, monkeypatch: pytest.MonkeyPatch):
    """Only passages of the worse half: an index that looks near the query alone would find none."""
    monkeypatch.setattr("tandem.engine.recall.index.FEW", 0)
    query = index.vectors[:1]
    products = index.vectors @ query[0]
    mask = products < np.median(products)
    _, rows = index.search(query, 50, RowMask(mask))
    _, expected = exact.search(index.vectors[mask], query, 50)
    np.testing.assert_array_equal(rows[0], np.flatnonzero(mask)[expected[0]])


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(METADATA, max_size=6), field=st.sampled_from(FIELDS), condition=CONDITIONS)
def test_what_is_called_unanswerable_holds_of_no_passage(rows: list[dict], field: str, condition: object):
    facets = MetadataValues([facets_of(rows)])
    for leaf in parse({field: condition}).leaves():
        if facets.unanswerable(leaf):
            assert not facets(leaf).any()


@settings(max_examples=100, deadline=None)
@given(st.lists(METADATA, max_size=6))
def test_the_fields_are_those_that_have_a_value(rows: list[dict]):
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for field in FIELDS:
            for value in values_of(row, field):
                kind = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
                kinds.setdefault(field, set()).add(kind)
    assert {field: set(of) for field, of in MetadataValues([facets_of(rows)]).fields.items()} == kinds


def test_a_collection_without_metadata_says_that_there_is_none():
    (leaf,) = parse({"year": 2020}).leaves()
    nothing = MetadataValues([facets_of([{}])])
    assert nothing.unanswerable(leaf) == "no passage has the field 'year'; there is no metadata at all"
    (leaf,) = parse({"year": {"$in": []}}).leaves()
    assert nothing.unanswerable(leaf) == ""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    folder = tmp_path_factory.mktemp("filtered")
    words = ("ladder", "kettle", "piano", "lantern", "carpet", "mirror", "saddle", "bucket", "basket", "pillow")
    rows = [
        {"_id": f"d{i}", "text": f"The {word} number {i} is kept near the door.", "year": 2000 + i % 10, "room": word}
        for i, word in enumerate(words * 12)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index_corpus(folder / "corpus.jsonl", folder / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def test_the_engine_finds_only_what_a_filter_leaves(engine: Engine):
    asked = {"top_k": 120, "candidates": 120, "budget_ms": None, "effort": "thorough"}
    everything = engine.search("where is the piano", **asked)
    assert len(everything.hits) == 120
    for document in ({"room": "piano"}, {"year": {"$gte": 2008}}, {"$not": {"room": {"$in": ["piano", "mirror"]}}}):
        expected = [hit.id for hit in everything.hits if holds(hit.metadata, document)]
        found = engine.search("where is the piano", filters=document, **asked)
        assert [hit.id for hit in found.hits] == expected
        assert found.candidates == found.reranked == len(expected) > 0
    none = engine.search("where is the piano", budget_ms=None, filters={"room": "cellar"})
    assert (none.hits, none.candidates, none.reranked, none.degraded) == ([], 0, 0, None)
    assert len(engine.search("where is the piano", filters={}).hits) == 10
    assert [result.warnings for result in (everything, found, none)] == [[], [], []]


def test_a_filter_that_no_passage_can_satisfy_says_so_beside_its_answer(engine: Engine):
    asked = {"$or": [{"yaer": {"$gte": 2000}}, {"year": "2005"}, {"room": {"$lt": 3}}, {"room": {"$in": ["piano", 1]}}]}
    found = engine.search("where is the piano", top_k=50, filters=asked)
    assert {hit.metadata["room"] for hit in found.hits} == {"piano"}
    assert found.warnings == [
        "no passage has the field 'yaer'; there are 'room', 'year'",
        "no passage has a text in the field 'year': its values are of type number",
        "no passage has a number in the field 'room': its values are of type text",
    ]
    twice = engine.search("where is the piano", filters={"$not": {"yaer": 1}, "$and": [{"yaer": 2}]})
    assert (len(twice.hits), len(twice.warnings)) == (0, 1)
    absent = engine.search("where is the piano", filters={"yaer": {"$exists": False}})
    assert (len(absent.hits), absent.warnings) == (10, []), "whether a field is there is an answer"


def test_queries_of_different_filters_at_once_do_not_mix(engine: Engine):
    async def together() -> list[SearchResult]:
        years = [{"year": year} for year in range(2000, 2010)]
        return await asyncio.gather(*(engine.asearch("the door", filters=year, budget_ms=None) for year in years))

    for year, result in zip(range(2000, 2010), asyncio.run(together()), strict=True):
        assert {hit.metadata["year"] for hit in result.hits} == {year}
        assert len(result.hits) == 10


def test_a_wrong_filter_is_one_sentence(engine: Engine):
    for wrong in ({"a": {"$near": 1}}, {"$xor": []}):
        with pytest.raises(InputError, match="filters"):
            engine.search("q", filters=wrong)
    with pytest.raises(InputError, match="filters"):
        engine.search("q", filters=["a"])


def test_a_version_without_facets_makes_them(engine: Engine):
    (segment,) = engine.collection.segments
    written = segment.facets
    made = MetadataIndex.of(segment.metadata)
    for field in ("room", "year", "text"):
        present = parse({field: {"$exists": True}})
        np.testing.assert_array_equal(present.mask(written), present.mask(made))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("room=piano", {"room": {"$in": ["piano"]}}),
        ("year=2003", {"year": {"$in": [2003, "2003"]}}),
        ("year != 2003", {"year": {"$nin": [2003, "2003"]}}),
        ("year>=2003", {"year": {"$gte": 2003}}),
        ("draft=true", {"draft": {"$in": [True, "true"]}}),
        ("day<2024-01-01", {"day": {"$lt": "2024-01-01"}}),
        ("title=a=b", {"title": {"$in": ["a=b"]}}),
        ('{"$or": [{"a": 1}]}', {"$or": [{"a": 1}]}),
    ],
)
def test_the_command_lines_short_form(text: str, expected: dict):
    from tandem.cli.search import parsed_filter

    assert parsed_filter(text) == expected
    parse(parsed_filter(text))


@pytest.mark.parametrize("text", ["room", "=x", "{room"])
def test_the_command_line_refuses_what_is_neither(text: str):
    from tandem.cli.search import parsed_filter

    with pytest.raises(InputError, match=re.escape(text)):
        parsed_filter(text)
