"""The way past FastAPI's layers answers what FastAPI answers, right requests and wrong ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from tandem.engine import Engine
from tandem.engine.errors import DeviceError
from tandem.engine.server import ServerSettings, Service, create_app
from tandem.engine.server.app import create_routes

from .test_app import BODIES

WRONG: dict[str, bytes] = {
    "no JSON": b"{",
    "a list": b"[]",
    "nothing": b"",
    "a wrong type": b'{"query": 5, "inputs": 5, "input": {}, "documents": 5, "passages": 5, "texts": 5, "ids": "a"}',
    "not a number": b'{"query": "q", "top_k": NaN}',
    "no text": b'{"query": " ", "inputs": "", "input": []}',
    "far too many": json.dumps(dict.fromkeys(("inputs", "input", "documents", "passages"), ["a"] * 3000)).encode(),
}
CHANGING = {"id", "created", "timings", "request_id"}


@pytest.fixture(scope="module")
def ask(engine: Engine) -> Callable[..., tuple[httpx.Response, httpx.Response, bool]]:
    """Asks the same of both ways; also whether the first went past FastAPI."""
    service = Service(ServerSettings(), engine)
    hot = create_routes(service)
    called: list[str] = []

    class Watched:
        state = hot._app.state

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            called.append(scope["path"])
            await fastapi(scope, receive, send)

    fastapi, hot._app = hot._app, Watched()  # type: ignore[assignment]
    apps = create_app(service, hot), create_app(service, fastapi)

    async def both(path: str, body: bytes, kinds: Sequence[str]) -> list[httpx.Response]:
        headers = [("content-type", kind) for kind in kinds]
        found = []
        for app in apps:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                found.append(await client.post(path, content=body, headers=headers))
        return found

    def asking(
        path: str, body: bytes, kinds: Sequence[str] = ("application/json",)
    ) -> tuple[httpx.Response, httpx.Response, bool]:
        called.clear()
        first, second = asyncio.run(both(path, body, kinds))
        return first, second, not called

    return asking


def lasting(answer: Any) -> Any:
    """An answer without what differs between two of them, and to five places."""
    if isinstance(answer, list):
        return [lasting(each) for each in answer]
    if isinstance(answer, dict):
        return {name: lasting(value) for name, value in answer.items() if name not in CHANGING}
    return round(answer, 5) if isinstance(answer, float) else answer


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_every_route_with_a_body_goes_past_fastapi_and_answers_the_same(ask, path: str, kind: str):
    ours, theirs, past = ask(path, json.dumps(BODIES[path]).encode(), (kind,))
    assert past
    assert ours.status_code == theirs.status_code == 200
    assert lasting(ours.json()) == lasting(theirs.json())
    assert set(ours.headers) == set(theirs.headers)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_as_fastapi_tells_it(ask, path: str, wrong: str):
    ours, theirs, _ = ask(path, WRONG[wrong])
    assert ours.status_code == theirs.status_code
    assert lasting(ours.json()) == lasting(theirs.json())


def test_what_is_no_json_is_left_to_fastapi(ask):
    ours, theirs, past = ask("/v1/search", b'{"query": "q"}', ("text/plain",))
    assert not past
    assert (ours.status_code, lasting(ours.json())) == (theirs.status_code, lasting(theirs.json()))
    assert ours.status_code == 415


def test_the_first_of_two_content_types_counts(ask):
    for kinds, expected in ((("text/plain", "application/json"), 415), (("application/json", "text/plain"), 200)):
        ours, theirs, past = ask("/v1/search", b'{"query": "parse json"}', kinds)
        assert (ours.status_code, theirs.status_code) == (expected, expected)
        assert past == (expected == 200)


def test_a_stored_error_does_not_keep_the_bodies_it_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    stored = DeviceError("the device is gone")

    async def refuse(*_: Any, **__: Any) -> None:
        raise stored

    monkeypatch.setattr(Service, "search", refuse)
    app = create_app(Service(ServerSettings(), engine))

    async def twice() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return [(await client.post("/v1/search", json={"query": "q"})).status_code for _ in range(2)]

    assert asyncio.run(twice()) == [503, 503]
    assert stored.__traceback__ is None
