"""A small engine, a server over it, and both as what an adapter is given."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from ..server.conftest import KEY, Running, running

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when Haystack is imported
QUERY = "how long are backups kept"
NIGHTLY, RESET = "Nightly backups are kept for thirty days.", "A key is reset under security."
DOCUMENTS = [
    {"_id": "backups", "title": "Backups", "text": NIGHTLY, "lang": "en", "year": 2021},
    {"_id": "keys", "title": "Keys", "text": RESET, "lang": "en", "year": 2023, "score": "own"},
    {"_id": "wetter", "title": "Wetter", "text": "Das Wetter bleibt trocken und kalt.", "lang": "de", "year": 2022},
    {"_id": "long", "title": "Long", "text": "A sentence about backups and how long they are. " * 60, "lang": "en"},
]
TEXTS = [RESET, "Backups are kept for thirty days.", " ", "It rains."]


@pytest.fixture(scope="session")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("adapted")
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)), encoding="utf-8")
    corpus = str(folder / "corpus.jsonl")
    index_corpus(corpus, folder / "notes", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, threads=1)
    with Engine.open(folder / "notes", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="session")
def server(engine: Engine) -> Iterator[Running]:
    """With a key and the default settings."""
    from tandem.engine.server import ServerSettings, Service

    with running(Service(ServerSettings(api_keys=(KEY,)), engine)) as opened:
        yield opened


@pytest.fixture(params=["engine", "url"])
def given(request: pytest.FixtureRequest, engine: Engine, server: Running) -> dict[str, Any]:
    """What every adapter is constructed with, in process and over HTTP."""
    return {"backend": engine} if request.param == "engine" else {"backend": server.url, "api_key": KEY}


@pytest.fixture
def _their_warnings() -> Iterator[None]:
    """Warnings of a framework's own are its own affair; connections that it leaves open too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def need(name: str) -> ModuleType:
    """A framework's module; the test module skips where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: see make clients", exc_type=ImportError)
