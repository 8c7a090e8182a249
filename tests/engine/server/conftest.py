"""A real server on a loopback port, over a small collection with tiny random-weight models."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
uvloop = pytest.importorskip("uvloop", reason="the [serve] extra is not installed")

from starlette.types import ASGIApp  # noqa: E402

from tandem.engine import Engine  # noqa: E402
from tandem.engine.build.indexing import index_corpus  # noqa: E402
from tandem.engine.server import ServerSettings, Service, create_app  # noqa: E402
from tandem.engine.server.listener import Listener  # noqa: E402

KEY = "k" * 32


@dataclass
class Running:
    """A server, its service, and a client that has the key."""

    url: str
    service: Service
    client: httpx.Client


@pytest.fixture(scope="session")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("served") / "docs"
    index_corpus("python:json,threading", folder, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    with Engine.open(folder, device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def post(server: Running, path: str, **fields: object) -> Any:
    """The answer to a request that is right."""
    answer = server.client.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another thread or process does; an AssertionError when it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come about within {seconds:g} seconds"
        time.sleep(0.01)


@contextlib.contextmanager
def running(service: Service) -> Iterator[Running]:
    headers = {"authorization": f"Bearer {KEY}"}
    with serving(create_app(service), service) as (host, port):
        url = f"http://{host}:{port}"
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield Running(url, service, client)


@contextlib.contextmanager
def serving(app: ASGIApp, service: Service) -> Iterator[tuple[str, int]]:
    """The address of a listener for `app`, in a thread."""
    bound = socket.create_server(("127.0.0.1", 0))
    settings = service.settings
    listener = Listener(app, settings, bound, service.metrics.refused, settings.max_connections)
    thread = threading.Thread(target=uvloop.run, args=(listener.run(),))
    thread.start()
    try:
        yield bound.getsockname()
    finally:
        listener.stop()
        thread.join()
        bound.close()


@pytest.fixture(scope="session")
def server(engine: Engine) -> Iterator[Running]:
    """With a key and the default settings."""
    with running(Service(ServerSettings(api_keys=(KEY,)), engine)) as opened:
        yield opened


@pytest.fixture
def start(engine: Engine) -> Iterator[Callable[..., Running]]:
    """Starts a server with other settings; `loaded=False`: one without an engine."""
    with contextlib.ExitStack() as stack:

        def begin(*, loaded: bool = True, **settings: object) -> Running:
            service = Service(ServerSettings(**{"api_keys": (KEY,), **settings}), engine if loaded else None)
            return stack.enter_context(running(service))

        yield begin


@pytest.fixture
def held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The cross-encoder waits until the event is set."""
    release = threading.Event()
    run_until = engine.reranker.runtime.run_until

    def wait(batch, stop):
        release.wait(60)
        return run_until(batch, stop)

    monkeypatch.setattr(engine.reranker.runtime, "run_until", wait)
    yield release
    release.set()
