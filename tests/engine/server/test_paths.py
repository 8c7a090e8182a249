"""A slash too many in a path: the same route, and never a way around the keys."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable

import httpx
import pytest

from tandem.engine.server.app import create_admin
from tandem.engine.server.paths import nearest, tidy
from tandem.engine.server.service import Service
from tandem.engine.server.settings import ServerSettings

from .conftest import KEY, Running
from .test_app import BODIES


def status(server: Running, method: str, path: str, *, key: bool) -> int:
    """What the server says to exactly these bytes; httpx would tidy them."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {KEY}"} if key else {})
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_spelling_of_a_path():
    for odd in ("/v1/rerank/", "//v1/rerank", "/v1//rerank", "/v1/v1/rerank", "/v1/v1//v1/rerank///"):
        assert tidy(odd) == "/v1/rerank"
    assert tidy("/v1/v2/rerank") == "/v2/rerank"  # Cohere's client at a base URL that ends with /v1
    for right in ("/", "/v1/models/a/v1/v1/b", "/rerank", "/v1/v3/x", "/v11/v1/rerank"):
        assert tidy(right) == right
    assert tidy("//") == tidy("") == "/"


@pytest.mark.parametrize("spelling", ["{}/", "/{}", "//{}//"])
@pytest.mark.parametrize("path", BODIES)
def test_an_odd_spelling_is_the_route_and_needs_its_key(server: Running, path: str, spelling: str):
    odd = spelling.format(path)
    assert status(server, "POST", odd, key=False) == 401
    assert status(server, "POST", odd, key=True) == 422


@pytest.mark.parametrize(
    "path",
    [
        "/livez/../v1/collections", "/livez//../info", "/livez/%2e%2e/info", "/livez%2f..%2finfo", "/livez;/info",
        "/livez?/info", "/health/info", "/ping/v1/collections", "/v1/health/live/../../collections", "//livez/..//info",
        "/livez%00/info", "/LIVEZ", "/v1/livez/info",
    ],
)  # fmt: skip
def test_a_probe_in_front_opens_no_other_route(server: Running, path: str):
    answer = status(server, "GET", path, key=False)
    assert answer == (200 if path == "/livez?/info" else 401)  # the probe itself with a query


def test_probes_have_one_spelling_too(server: Running):
    for odd in ("//livez", "/livez/", "/readyz//", "/v1/v1/health/live", "/infinity/health"):
        assert status(server, "GET", odd, key=False) == 200


def test_metrics_name_the_route_itself(start: Callable[..., Running]):
    server = start()
    assert status(server, "POST", "//v2//rerank/", key=True) == 422
    assert status(server, "POST", "/v1/retrieval/one/reranking", key=True) == 422
    text = server.client.get("/metrics").text
    assert 'route="/v2/rerank",status="422"' in text
    assert 'route="/v1/retrieval/{model:path}/reranking",status="422"' in text
    assert "//" not in "".join(line for line in text.splitlines() if line.startswith("tandem_requests_total"))


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/serach", "/v1/search"),
        ("/api/v1/rerank", "/v1/rerank"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/zz", None),
    ],
)
def test_an_unknown_path_is_told_what_is_near(server: Running, path: str, near: str | None):
    answer = server.client.post(path, json={})
    assert answer.status_code == 404
    assert ("did you mean" in answer.text) == (near is not None)
    assert near is None or f"did you mean {near}?" in answer.text


def test_what_is_near_is_a_path_that_can_be_asked():
    assert nearest("/v1/model", ["/v1/models/{model:path}", "/v1/models"]) == "/v1/models"
    assert nearest("/" + "x" * 100_000, ["/v1/models"]) is None


@pytest.mark.parametrize("path", ["/admin/status", "//admin/status", "/admin//status", "/admin/status/"])
def test_administration_needs_a_key_however_it_is_spelt(path: str):
    service = Service(ServerSettings(api_keys=(KEY,)))
    transport = httpx.ASGITransport(create_admin(service, lambda: None))

    async def ask(**headers: str) -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get(f"http://localhost{path}", headers=headers)).status_code

    assert asyncio.run(ask()) == 401
    assert asyncio.run(ask(authorization=f"Bearer {KEY}")) == 200
