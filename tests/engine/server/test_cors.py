"""Which pages of other origins a browser lets in."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tandem.engine import Engine

from .conftest import KEY, Running

PAGE = "https://app.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type, x-budget-ms",
}
ALLOWED = "access-control-allow-origin"


def ask(server: Running, origin: str, *, key: str = KEY, **fields: object) -> httpx.Response:
    headers = {"origin": origin, "authorization": f"Bearer {key}"}
    return httpx.post(f"{server.url}/v2/rerank", json=fields, headers=headers, trust_env=False)


@pytest.fixture
def open_server(start: Callable[..., Running]) -> Running:
    return start(cors_allow_origins=(PAGE,))


def test_nobody_is_let_in_by_default(server: Running):
    answers = [
        httpx.options(f"{server.url}/v2/rerank", headers=PREFLIGHT, trust_env=False),
        ask(server, PAGE, query="q", documents=["a"]),
    ]
    for answer in answers:
        assert answer.status_code == 403
        assert "cors_allow_origins" in answer.json()["message"]
        assert ALLOWED not in answer.headers


def test_an_allowed_page_asks_beforehand_without_its_key(open_server: Running):
    answer = httpx.options(f"{open_server.url}/v2/rerank", headers=PREFLIGHT, trust_env=False)
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, PAGE)
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    other = httpx.options(f"{open_server.url}/v2/rerank", headers={**PREFLIGHT, "origin": "https://b.example"})
    assert (other.status_code, ALLOWED in other.headers) == (400, False)


def test_an_allowed_page_reads_answers_and_errors(open_server: Running):
    right = ask(open_server, PAGE, query="q", documents=["a"])
    wrong = ask(open_server, PAGE, query="q", documents=[])
    keyless = ask(open_server, PAGE, key="x" * 32)
    assert [answer.status_code for answer in (right, wrong, keyless)] == [200, 422, 401]
    for answer in (right, wrong, keyless):
        assert answer.headers[ALLOWED] == PAGE
        assert answer.headers["vary"] == "Origin"
        assert "x-degraded" in answer.headers["access-control-expose-headers"].lower()


def test_an_allowed_page_reads_what_failed_unexpectedly(open_server: Running, monkeypatch: pytest.MonkeyPatch):
    async def broken(self: Engine, *args: object, **settings: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Engine, "arerank", broken)
    answer = ask(open_server, PAGE, query="q", documents=["a"])
    assert (answer.status_code, answer.headers[ALLOWED]) == (500, PAGE)


def test_others_stay_outside(open_server: Running):
    for origin in ("https://b.example", f"{PAGE}.evil.example", "http://app.example", f"{PAGE}:444", "null"):
        answer = ask(open_server, origin, query="q", documents=["a"])
        assert (answer.status_code, ALLOWED in answer.headers) == (403, False)
    ours = ask(open_server, open_server.url, query="q", documents=["a"])
    assert ours.status_code == 200


def test_all_pages_with_a_key(start: Callable[..., Running]):
    server = start(cors_allow_origins=("*",))
    assert ask(server, "https://b.example", query="q", documents=["a"]).headers[ALLOWED] == "*"
    assert ask(server, "https://b.example", key="x" * 32).status_code == 401
