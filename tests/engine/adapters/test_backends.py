"""Both backends: the same answers from an engine and over HTTP, and one sentence where there is none."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.adapters import connect
from tandem.engine.adapters.backend import chosen, wished
from tandem.engine.adapters.http_answers import failure, found, read
from tandem.engine.adapters.over_http import HttpBackend
from tandem.engine.adapters.parts import MOST_TEXTS, parts, united
from tandem.engine.config import SearchSettings
from tandem.engine.errors import (
    CollectionError,
    EngineClosed,
    EngineError,
    InferenceError,
    InputError,
    MissingPackage,
    Overloaded,
)
from tandem.engine.result import Reranked, SearchResult
from tandem.engine.text.prompting import NO_WISH, PromptWish

from ..server.conftest import KEY, Running, running
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


@pytest.mark.parametrize("method", ["search", "search_many", "rerank", "embed", "asearch", "arerank", "aembed"])
def test_a_closed_engine_raises(engine: Engine, method: str):
    with Engine.open(engine.collection.path, device="cpu", warm_up=False) as opened:
        backend = connect(opened)
    with pytest.raises(EngineClosed, match="closed"):
        _ask(backend, method)


@pytest.mark.parametrize("method", ["search", "search_many", "rerank", "embed", "asearch", "arerank", "aembed"])
def test_a_dead_server_raises(method: str):
    with socket.socket() as bound:  # bound and not listening: nothing answers there
        bound.bind(("127.0.0.1", 0))
        backend = connect(f"http://127.0.0.1:{bound.getsockname()[1]}")
        with pytest.raises(EngineError, match=r"cannot be reached .* `tandem serve` runs there"):
            _ask(backend, method)


def _ask(backend: Any, method: str) -> Any:
    call: dict[str, Callable[[], Any]] = {
        "search": lambda: backend.search(QUERY, UNHURRIED),
        "search_many": lambda: backend.search_many([QUERY], UNHURRIED),
        "rerank": lambda: backend.rerank(QUERY, TEXTS, NO_WISH),
        "embed": lambda: backend.embed(TEXTS, NO_WISH),
        "asearch": lambda: asyncio.run(backend.asearch(QUERY, UNHURRIED)),
        "arerank": lambda: asyncio.run(backend.arerank(QUERY, TEXTS, NO_WISH)),
        "aembed": lambda: asyncio.run(backend.aembed(TEXTS, NO_WISH)),
    }
    return call[method]()


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(EngineError, match=r"did not answer within 0\.2 seconds"):
            backend.search(QUERY, UNHURRIED)


def test_a_closed_connection_raises(server: Running):
    backend = connect(server.url, api_key=KEY)
    asyncio.run(_asked_and_closed(backend))
    with pytest.raises(EngineClosed, match="connect again"):
        backend.search(QUERY, UNHURRIED)


async def _asked_and_closed(backend: Any) -> None:
    await backend.asearch(QUERY, UNHURRIED)
    await backend.aclose()


@pytest.mark.parametrize("key", [None, "x" * 32])
def test_a_wrong_key_is_told(server: Running, key: str | None):
    with pytest.raises(InputError, match="wants another key: give api_key"):
        connect(server.url, api_key=key).search(QUERY, UNHURRIED)


@pytest.mark.parametrize("name", ["nothing", "a/b", "ä"])
def test_a_wrong_collection_is_told(server: Running, name: str):
    with pytest.raises(
        CollectionError, match=rf"has no collection '{name}': (no such collection|there is no such route)"
    ):
        connect(server.url, api_key=KEY, collection=name).embed(["a"], NO_WISH)


def test_the_right_collection_answers(server: Running, engine: Engine):
    headers = {"authorization": f"Bearer {KEY}"}
    listed = httpx.get(f"{server.url}/v1/collections", headers=headers, trust_env=False).json()["collections"]
    named = connect(server.url + "/", api_key=KEY, collection=listed[0]["name"])
    assert answer(named.search(QUERY, UNHURRIED)) == answer(engine.search(QUERY, budget_ms=None))
    assert [each.index for each in named.rerank(QUERY, TEXTS, NO_WISH)] == [
        each.index for each in engine.rerank(QUERY, TEXTS)
    ]


def test_a_server_that_is_not_ready_is_told():
    from tandem.engine.server import ServerSettings, Service

    with (
        running(Service(ServerSettings(api_keys=(KEY,)), None)) as empty,
        pytest.raises(EngineError, match="is not ready to answer; try again later: "),
    ):
        connect(empty.url, api_key=KEY).search(QUERY, UNHURRIED)


def test_what_is_wrong_with_a_request_is_told(given: dict[str, Any]):
    backend = connected(given)
    with pytest.raises(InputError, match="no prompt of that name"):
        backend.embed(["a"], PromptWish("nothing"))
    with pytest.raises(InputError, match="an instruction is for models that take one"):
        backend.search(QUERY, SearchSettings(instruction="find it"))
    with pytest.raises(InputError, match="the query is empty"):
        backend.search(" ", UNHURRIED)
    with pytest.raises(InputError, match="the query"):
        backend.rerank("", TEXTS, NO_WISH)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, InputError, "refused the request: because"),
        (403, InputError, "refused the request: because"),
        (413, InputError, "refused the request: because"),
        (422, InputError, "refused the request: because"),
        (424, InferenceError, "failed on this request: because"),
        (429, Overloaded, "too much to do; try again later: because"),
        (500, InferenceError, "failed on this request: because"),
        (503, EngineError, "not ready to answer"),
        (504, EngineError, "no time left"),
        (301, EngineError, "status 301"),
    ],
)
def test_each_status_is_an_error_of_ours(status: int, kind: type[Exception], words: str):
    for body in (b'{"error": {"message": "because"}}', b'{"error": "because"}'):
        error = failure("http://host", status, body, None)
        assert type(error) is kind
        assert words in str(error)


def test_another_web_server_is_told():
    assert "none of Tandem's routes" in str(failure("http://host", 404, b"<html>", "notes"))
    with pytest.raises(EngineError, match="no answer of Tandem's"):
        read("http://host", b'{"hits": []}', found)


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


def test_wrong_sources_are_told(engine: Engine, tmp_path: Path):
    with pytest.raises(InputError, match="api_key and collection go with the URL of a server, and an object of type"):
        connect(engine, api_key=KEY, collection="notes")
    with pytest.raises(InputError, match="go with the URL of a server, and 'localhost:8080' is none"):
        connect("localhost:8080", api_key=KEY)
    with pytest.raises(InputError, match="looks like a server's address: write http:// before it"):
        connect("localhost:8080")
    with pytest.raises(CollectionError, match="absent"):
        connect(tmp_path / "absent")
    with pytest.raises(InputError, match="not an object of type int"):
        connect(7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is no URL"):
        connect("http://host:port")
    with pytest.raises(InputError, match="api_key must be text of printable ASCII characters"):
        connect("http://host", api_key="ä")


def test_httpx_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingPackage, match=r"needs httpx, .*: pip install httpx"):
        HttpBackend("http://host")


@pytest.mark.parametrize(
    ("module", "imported", "package"),
    [
        ("langchain", "langchain_core", "langchain-core"),
        ("llama_index", "llama_index", "llama-index-core"),
        ("haystack", "haystack", "haystack-ai"),
        ("pyterrier", "pyterrier", "python-terrier"),
        ("mteb", "mteb", "mteb"),
    ],
)
def test_a_framework_that_is_missing_is_told(module: str, imported: str, package: str):
    script = f"""
import sys, importlib
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {imported!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Refuse())
import tandem.engine.adapters
from tandem.engine.errors import InputError
try:
    importlib.import_module("tandem.engine.adapters.{module}")
except ImportError as error:
    assert isinstance(error, InputError), type(error)
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith(f": pip install {package}")


def test_options_are_those_of_a_search():
    before = chosen(None, {"top_k": 3, "effort": "quick"})
    assert chosen(before, {"top_k": 5}) == SearchSettings(top_k=5, effort="quick")
    with pytest.raises(InputError, match="topk"):
        chosen(None, {"topk": 3})
    with pytest.raises(InputError, match="one of the two"):
        wished("query", "about: ")
