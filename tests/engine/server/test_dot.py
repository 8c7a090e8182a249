"""Vectors of a model that is compared by the dot product, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.server import ServerSettings, Service

from ...conftest import exported
from ...prompted import with_manifest
from .conftest import KEY, Running, post, running

TEXTS = ["open a file", "start a thread and wait", "parse json into a dictionary"]


@pytest.fixture(scope="module")
def dot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("served-dot")
    encoder = with_manifest(exported(folder, "bi-encoder", normalize=False), folder / "encoder", similarity="dot")
    index_corpus("python:json", folder / "c", encoder=encoder)
    with Engine.open(folder / "c", device="cpu", warm_up=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(dot: Engine) -> Iterator[Running]:
    with running(Service(ServerSettings(api_keys=[KEY]), dot)) as served:
        yield served


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_tei_normalises_unless_told_not_to(server: Running, dot: Engine):
    vectors = dot.embed(TEXTS)
    np.testing.assert_allclose(post(server, "/embed", inputs=TEXTS), unit(vectors), atol=1e-5)
    np.testing.assert_allclose(post(server, "/embed", inputs=TEXTS, normalize=False), vectors, rtol=1e-4, atol=1e-5)


def test_others_give_the_models_own_vectors_whole_or_their_first_numbers(server: Running, dot: Engine):
    vectors = dot.embed(TEXTS)
    for asked, expected in (({}, vectors), ({"dimensions": 8}, vectors[:, :8])):
        data = post(server, "/v1/embeddings", input=TEXTS, **asked)["data"]
        np.testing.assert_allclose([each["embedding"] for each in data], expected, rtol=1e-4, atol=1e-5)


def test_similarity_is_the_cosine_all_the_same(server: Running, dot: Engine):
    vectors = unit(dot.embed(TEXTS))
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    np.testing.assert_allclose(post(server, "/similarity", inputs=inputs), vectors[1:] @ vectors[0], atol=1e-5)
