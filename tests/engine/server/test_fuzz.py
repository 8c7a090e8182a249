"""Every route with generated requests, valid and not: it answers, in JSON, and never with a 5xx."""

from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .conftest import Running
from .test_app import BODIES

pytestmark = pytest.mark.clients
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BOUNDED = settings(
    max_examples=12, deadline=None, database=None, derandomize=True, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def operations() -> list[str]:
    return [path for path in BODIES if path not in ("/embeddings", "/v1/retrieval/nvidia/reranking")]


@pytest.mark.parametrize("path", operations())
def test_requests_made_from_the_schema(server: Running, path: str):
    schema = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    strategy = schema[path]["POST"].as_strategy()

    @BOUNDED
    @given(case=strategy)
    def check(case) -> None:
        answer = server.client.post(path, json=case.body, headers={"x-request-timeout-ms": "20000"})
        assert answer.status_code < 500, answer.text
        answer.json()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()


@pytest.mark.parametrize("path", operations())
def test_requests_with_anything_in_a_field(server: Running, path: str):
    @BOUNDED
    @given(field=st.sampled_from([*BODIES[path], "top_n", "truncate", "dimensions", "rank_fields"]), value=ANYTHING)
    def check(field: str, value: object) -> None:
        body = json.dumps({**BODIES[path], field: value}).encode()  # NaN and lone surrogates as Python writes them
        answer = server.client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, answer.text
        answer.json()

    check()
