"""Where nothing answers, or what is asked for is wrong: one sentence, in a class of `errors`."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.engine import Engine
from tandem.engine.adapters import connect
from tandem.engine.adapters.http_answers import failure, found, read
from tandem.engine.adapters.over_http import HttpBackend
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
from tandem.engine.text.prompting import NO_WISH, PromptWish

from ..server.conftest import KEY, Running, running
from .conftest import QUERY, TEXTS
from .test_backends import UNHURRIED, connected


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
