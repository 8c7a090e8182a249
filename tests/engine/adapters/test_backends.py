"""Both backends: the same answers from an engine and over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.adapters import connect
from tandem.engine.adapters.backend import chosen, wished
from tandem.engine.adapters.parts import MOST_TEXTS, parts, united
from tandem.engine.config import SearchSettings
from tandem.engine.errors import (
    EngineClosed,
    InputError,
)
from tandem.engine.result import Reranked, SearchResult
from tandem.engine.text.prompting import NO_WISH, PromptWish

from ..server.conftest import KEY, Running
from .conftest import QUERY, TEXTS

UNHURRIED = SearchSettings(budget_ms=None)


def connected(given: dict[str, Any]) -> Any:
    return connect(given["backend"], api_key=given.get("api_key"))


def answer(result: SearchResult) -> list[Any]:
    """What is equal from one search to the next."""
    return [result.hits, result.candidates, result.reranked, result.version]


def test_a_search_is_the_engines(given: dict[str, Any], engine: Engine):
    settings = SearchSettings(budget_ms=None, top_k=3, filters={"lang": "en"})
    wanted = engine.search(QUERY, budget_ms=None, top_k=3, filters={"lang": "en"})
    assert len(wanted.hits) == 3
    assert answer(connected(given).search(QUERY, settings)) == answer(wanted)
    assert answer(asyncio.run(connected(given).asearch(QUERY, settings))) == answer(wanted)


def test_many_searches_are_the_engines(given: dict[str, Any], engine: Engine):
    queries = [f"{QUERY} {place}" for place in range(19)]
    found = connected(given).search_many(queries, UNHURRIED)
    assert [answer(each) for each in found] == [answer(engine.search(query, budget_ms=None)) for query in queries]
    assert connected(given).search_many([], UNHURRIED) == []


def test_a_rerank_is_the_engines(given: dict[str, Any], engine: Engine):
    wanted = [(each.index, each.score, each.text) for each in engine.rerank(QUERY, TEXTS)]
    for passages in (
        connected(given).rerank(QUERY, TEXTS, NO_WISH),
        asyncio.run(connected(given).arerank(QUERY, TEXTS, NO_WISH)),
    ):
        assert [(each.index, each.score, each.text) for each in passages] == wanted
    assert connected(given).rerank(QUERY, [], NO_WISH) == []


@pytest.mark.parametrize("wish", [NO_WISH, PromptWish("query"), PromptWish(text="about: ")], ids=repr)
def test_vectors_are_the_engines(given: dict[str, Any], engine: Engine, wish: PromptWish):
    wanted = engine.embed(TEXTS, wish.name, prompt=wish.text)
    np.testing.assert_array_equal(connected(given).embed(TEXTS, wish), wanted)
    np.testing.assert_array_equal(asyncio.run(connected(given).aembed(TEXTS, wish)), wanted)
    assert len(connected(given).embed([], wish)) == 0


def test_many_texts_go_in_parts(given: dict[str, Any], engine: Engine):
    texts = [f"text {place} about backups" if place % 7 else " " for place in range(2 * MOST_TEXTS + 3)]
    wanted = [(each.index, each.score) for each in engine.rerank(QUERY, texts)]
    assert [(each.index, each.score) for each in connected(given).rerank(QUERY, texts, NO_WISH)] == wanted
    np.testing.assert_array_equal(connected(given).embed(texts, NO_WISH), engine.embed(texts))


def test_parts_keep_order_and_bounds():
    texts = ["a" * 300_000, "b" * 300_000, *"c" * 300, ""]
    cut = list(parts(texts))
    assert [text for part in cut for text in part] == texts
    assert [len(part) for part in cut] == [1, MOST_TEXTS, 46]
    assert list(parts([])) == [[]]
    with pytest.raises(InputError, match="a list of texts"):
        list(parts("one text"))
    with pytest.raises(InputError, match="text 1 must be text, not int"):
        list(parts(["a", 2]))  # type: ignore[list-item]


def test_parts_are_united_as_one_call_orders_them():
    first = [Reranked(1, 5.0), Reranked(0, -2000.0)]
    second = [Reranked(0, 5.0), Reranked(1, -1000.0)]
    united_places = [each.index for each in united(["x", "y", "z", " "], [first, second])]
    assert united_places == [1, 2, 0, 3]  # equal scores in the order given, the blank one last


def test_a_warning_of_a_search_is_a_warning(given: dict[str, Any]):
    with pytest.warns(UserWarning, match="colour"):
        result = connected(given).search(QUERY, SearchSettings(filters={"colour": "red"}, budget_ms=None))
    assert result.hits == []


def test_an_await_does_not_block(given: dict[str, Any]):
    backend = connected(given)

    async def counted() -> int:
        search = asyncio.ensure_future(backend.asearch(QUERY, UNHURRIED))
        turns = 0
        while not search.done():
            turns += 1
            await asyncio.sleep(0)
        await search
        return turns

    assert asyncio.run(counted()) > 1
    assert asyncio.run(counted()) > 1  # another event loop, the same backend


def test_many_are_asked_at_once_and_some_are_cancelled(given: dict[str, Any], engine: Engine):
    backend, wanted = connected(given), answer(engine.search(QUERY, budget_ms=None))

    async def together() -> list[SearchResult]:
        asked = [asyncio.ensure_future(backend.asearch(QUERY, UNHURRIED)) for _ in range(40)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        await asyncio.wait(asked)
        return [task.result() for task in asked[1::2]]

    assert [answer(result) for result in asyncio.run(together())] == [wanted] * 20


def test_the_right_collection_answers(server: Running, engine: Engine):
    headers = {"authorization": f"Bearer {KEY}"}
    listed = httpx.get(f"{server.url}/v1/collections", headers=headers, trust_env=False).json()["collections"]
    named = connect(server.url + "/", api_key=KEY, collection=listed[0]["name"])
    assert answer(named.search(QUERY, UNHURRIED)) == answer(engine.search(QUERY, budget_ms=None))
    assert [each.index for each in named.rerank(QUERY, TEXTS, NO_WISH)] == [
        each.index for each in engine.rerank(QUERY, TEXTS)
    ]


def test_a_folder_is_opened_once_and_closed_with_its_last_user(engine: Engine):
    first, second = connect(engine.collection.path), connect(str(engine.collection.path))
    assert first is second
    opened = first.engine
    assert answer(first.search(QUERY, UNHURRIED))[0]
    del first, second
    with pytest.raises(EngineClosed):
        opened.search(QUERY)


def test_what_was_connected_stays_so(server: Running):
    backend = connect(server.url, api_key=KEY)
    assert connect(backend) is backend
    assert repr(backend) == f"HttpBackend('{server.url}', collection=None)"  # and no key


def test_options_are_those_of_a_search():
    before = chosen(None, {"top_k": 3, "effort": "quick"})
    assert chosen(before, {"top_k": 5}) == SearchSettings(top_k=5, effort="quick")
    with pytest.raises(InputError, match="topk"):
        chosen(None, {"topk": 3})
    with pytest.raises(InputError, match="one of the two"):
        wished("query", "about: ")
