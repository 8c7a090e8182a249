"""Prompts and instructions per request through the engine: what the models read is what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as RustTokenizer

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import InputError
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.platform.device import choose
from tandem.engine.scoring.lexical import lexical_scores
from tandem.engine.search.union import shares_of
from tandem.engine.text.tokens import pack

from ..prompted import TEMPLATE, with_manifest

PROMPTS = {
    "query": "query: ",
    "passage": "passage: ",
    "named": {"code": "find code: "},
    "instructed": "task: {instruction} query: ",
}
TEXTS = ["open a file", "start a thread and wait", "parse json into a dictionary"]


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    """A bi-encoder with prompts, and a cross-encoder with one too."""
    folder = tmp_path_factory.mktemp("prompted")
    encoder = with_manifest(tiny_bi_encoder, folder / "encoder", prompts=PROMPTS)
    own = {"query": "search: ", "named": {"code": "find code: "}}
    reranker = with_manifest(tiny_cross_encoder, folder / "reranker", prompts=own)
    index_corpus("python:json,threading", folder / "c", encoder=encoder, reranker=reranker)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def instructed(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    """A reranker that reads a template with an instruction, behind a bi-encoder that takes none."""
    folder = tmp_path_factory.mktemp("instructed")
    # A decoder has no segments; where a BERT reads them, zeros are what a model without them would say.
    reranker = with_manifest(tiny_cross_encoder, folder / "reranker", pair_text=TEMPLATE.model_dump())
    index_corpus("python:json,threading", folder / "c", encoder=tiny_bi_encoder, reranker=reranker)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def embedded(engine: Engine, texts: list[str]) -> np.ndarray:
    """Vectors of the texts as they are."""
    return asyncio.run(engine.aembed(texts)).vectors


@pytest.mark.parametrize(
    ("asked", "before"),
    [
        ({"prompt_name": "query"}, "query: "), ({}, ""), ({"prompt_name": "document"}, "passage: "),
        ({"prompt_name": "code"}, "find code: "), ({"prompt": "anything "}, "anything "), ({"prompt": ""}, ""),
        ({"instruction": "find code"}, "task: find code query: "),
    ],
)  # fmt: skip
def test_embed_puts_what_was_asked_for_before_each_text(engine: Engine, asked: dict[str, str], before: str):
    expected = embedded(engine, [before + text for text in TEXTS])
    np.testing.assert_allclose(engine.embed(TEXTS, **asked), expected, atol=1e-6)


def test_awaited_and_without_a_wish_texts_are_taken_as_they_are(engine: Engine):
    asked = asyncio.run(engine.aembed(TEXTS, "code")).vectors
    np.testing.assert_allclose(asked, embedded(engine, ["find code: " + text for text in TEXTS]), atol=1e-6)
    assert not np.allclose(asked, embedded(engine, TEXTS), atol=1e-3)


def test_passages_are_indexed_with_the_passages_prompt(engine: Engine):
    read = zip(engine.collection.titles([0, 1, 2]), engine.collection.texts([0, 1, 2]), strict=True)
    texts = [f"{title} {text}" for title, text in read]
    np.testing.assert_allclose(engine.embed(texts, "passage"), engine.collection.index.vectors[:3], atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "before"),
    [({}, "query: "), ({"prompt_name": "code"}, "find code: "), ({"prompt": ""}, ""),
     ({"instruction": "find code"}, "task: find code query: ")],
)  # fmt: skip
def test_a_search_recalls_with_the_prompt_and_reranks_with_the_rerankers_own(
    engine: Engine, asked: dict[str, str], before: str
):
    found = engine.search("wait for a thread", budget_ms=None, **asked)
    vector = embedded(engine, [before + "wait for a thread"])
    scores, rows = engine.collection.index.search(vector, len(engine.collection))
    recalled = dict(zip(engine.collection.ids(rows[0]), scores[0], strict=True))
    assert {hit.id: hit.recall_score for hit in found.hits} == pytest.approx(
        {hit.id: recalled[hit.id] for hit in found.hits}, abs=1e-6
    )
    ranked = {one.id: one.score for one in engine.rerank("wait for a thread", ids=[hit.id for hit in found.hits])}
    assert {hit.id: hit.rerank_score for hit in found.hits} == pytest.approx(ranked, abs=1e-4)


def test_words_in_common_are_those_of_the_question_alone(engine: Engine):
    """A prompt's words stand in no passage for the question's sake."""
    hits = engine.search("wait", budget_ms=None, prompt="json json json ").hits
    own = engine.reranker.tokenizer.encode("wait")
    rows = np.array([engine.collection.row_of(hit.id) for hit in hits])
    words = shares_of(rows, *engine.collection.lexical.search("wait", 100))
    windows = engine.collection.lexicon.windows(own, engine.collection.tokens(rows))
    assert [hit.lexical_score for hit in hits] == pytest.approx(lexical_scores(words, windows))


@pytest.mark.parametrize(
    ("asked", "before"),
    [({}, "search: "), ({"prompt_name": "query"}, "search: "), ({"prompt_name": "code"}, "find code: "),
     ({"prompt": ""}, ""), ({"prompt": "a "}, "a ")],
)  # fmt: skip
def test_rerank_puts_the_prompt_before_the_query_only(engine: Engine, asked: dict[str, str], before: str):
    tokenizer, reranker = engine.reranker.tokenizer, engine.reranker
    pairs = tokenizer.pairs(tokenizer.encode(before + "wait"), tokenizer.encode_many(TEXTS))
    expected = reranker.compute_all(pairs)
    ranked = engine.rerank("wait", TEXTS, **asked)
    assert [one.score for one in sorted(ranked, key=lambda one: one.index)] == pytest.approx(expected, abs=1e-5)


def test_what_the_models_do_not_take_is_refused(engine: Engine):
    with pytest.raises(InputError, match="known are query, passage, code"):
        engine.embed(TEXTS, "sts")
    with pytest.raises(InputError, match="known are query, passage, code"):
        engine.search("wait", prompt_name="sts")
    with pytest.raises(InputError, match="takes no instruction"):
        engine.rerank("wait", TEXTS, instruction="find code")
    with pytest.raises(InputError, match="give prompt or prompt_name"):
        engine.search("wait", prompt_name="code", prompt="a")


def test_equal_texts_with_other_prompts_that_wait_together_do_not_share_a_result(engine: Engine):
    """The queue computes equal sequences once: what is equal is what the model reads."""
    wishes = [{"prompt_name": "query"}, {"prompt_name": "code"}, {"prompt": ""}, {"instruction": "x"}]

    async def together() -> list[np.ndarray]:
        return [each.vectors for each in await asyncio.gather(*(engine.aembed(["wait"], **wish) for wish in wishes))]

    async def scores() -> list[float]:
        asked = [{}, {"prompt_name": "code"}, {"prompt": ""}, {}]
        found = await asyncio.gather(*(engine.arerank("wait", TEXTS[:1], **wish) for wish in asked))
        return [each.passages[0].score for each in found]

    for wish, vectors in zip(wishes, asyncio.run(together()), strict=True):
        np.testing.assert_allclose(vectors, engine.embed(["wait"], **wish), atol=1e-6)
    first, second, third, fourth = asyncio.run(scores())
    assert first == fourth
    assert len({round(score, 4) for score in (first, second, third)}) == 3


def whole_texts(engine: Engine, query: str, passages: list[str], instruction: str) -> np.ndarray:
    """Logits of the rendered texts, tokenised whole."""
    artifact = engine.reranker.artifact
    rust = RustTokenizer.from_file(str(artifact.path / "tokenizer.json"))
    rust.no_truncation()
    rows = []
    for passage in passages:
        text = TEMPLATE.head + instruction + TEMPLATE.neck + query + TEMPLATE.middle + passage + TEMPLATE.tail
        rows.append(np.array(rust.encode(text, add_special_tokens=False).ids, dtype=np.int32))
    batch = pack(rows)
    zeros = np.zeros(len(batch.ids), dtype=np.uint8)
    return engine.reranker.compute_all(type(batch)(batch.ids, batch.cu_seqlens, zeros))


@pytest.mark.parametrize("instruction", [None, "find code"])
def test_a_template_is_read_as_the_whole_text(instructed: Engine, instruction: str | None):
    asked = {} if instruction is None else {"instruction": instruction}
    ranked = instructed.rerank("wait?", TEXTS, **asked)
    expected = whole_texts(instructed, "wait?", TEXTS, instruction or "find the answer")
    assert [one.score for one in sorted(ranked, key=lambda one: one.index)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("instruction", [None, "find code"])
def test_a_search_reads_stored_ids_with_the_template(instructed: Engine, instruction: str | None):
    asked = {} if instruction is None else {"instruction": instruction}
    found = instructed.search("wait for a thread", budget_ms=None, **asked)
    ranked = {one.id: one.score for one in instructed.rerank(
        "wait for a thread", ids=[hit.id for hit in found.hits], **asked
    )}  # fmt: skip
    assert {hit.id: hit.rerank_score for hit in found.hits} == pytest.approx(ranked, abs=1e-4)
    row = instructed.collection.row_of(found.hits[0].id)
    title, text = instructed.collection.titles([row])[0], instructed.collection.texts([row])[0]
    expected = whole_texts(instructed, "wait for a thread", [f"{title} {text}"[:300]], instruction or "find the answer")
    again = instructed.rerank("wait for a thread", [f"{title} {text}"[:300]], **asked)
    assert again[0].score == pytest.approx(float(expected[0]), abs=1e-5)


def test_an_instruction_that_neither_model_takes_in_this_search_is_refused(instructed: Engine):
    instructed.search("wait", instruction="find code")
    with pytest.raises(InputError, match="leave it out"):
        instructed.search("wait", instruction="find code", rerank=False)


def test_the_cross_encoder_alone_reads_its_template(instructed: Engine):
    model = CrossEncoder(Artifact.open(instructed.reranker.artifact.path), choose("cpu", 1), "fp32")
    expected = whole_texts(instructed, "wait?", TEXTS, "find the answer")
    np.testing.assert_allclose(model.score("wait?", TEXTS), expected, atol=1e-5)


def test_a_passage_leaves_room_for_the_template(instructed: Engine, engine: Engine):
    """128 tokens, of which the template has some thirty: a passage is cut into smaller pieces."""
    beside = instructed.reranker.tokenizer.pair_around - engine.reranker.tokenizer.pair_around
    manifests = instructed.collection.manifest, engine.collection.manifest
    assert beside > 10
    assert manifests[1].chunk_tokens - manifests[0].chunk_tokens == beside
