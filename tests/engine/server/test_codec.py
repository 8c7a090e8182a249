"""Frames over the socket of a worker: whole however they are cut, and answers that survive them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import socket

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import Engine
from tandem.engine.config import SearchSettings
from tandem.engine.result import Embedded, Reranked, RerankResult, SearchResult, Timings
from tandem.engine.server import codec
from tandem.engine.server.backend import WorkerFault
from tandem.engine.server.rpc_calls import Decode, Embed, Rerank, SearchCall, Tokenize
from tandem.engine.server.search_response import SearchResponse, found, together
from tandem.engine.server.worker_client import Remote

DOCUMENTS = st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers(-9, 9)), st.binary(max_size=40)))
TIMINGS = Timings(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 21.0)


def heard(data: bytes, cuts: list[int]) -> list[tuple[dict, bytes]]:
    frames: list[tuple[dict, bytes]] = []
    reading = codec.Frames(lambda document, blob: frames.append((document, blob)), lambda: None)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(places):
        reading.data_received(data[start:stop])
    return frames


@settings(max_examples=300)
@given(DOCUMENTS, st.lists(st.integers(0, 2**16), max_size=12))
def test_frames_are_whole_however_they_are_cut(sent: list[tuple[dict, bytes]], cuts: list[int]):
    data = b"".join(codec.frame(document, blob) for document, blob in sent)
    assert heard(data, cuts) == sent


def test_megabytes_come_whole_and_the_end_is_told():
    async def over_a_socket() -> list[tuple[dict, bytes]]:
        ends = socket.socketpair()
        frames: list[tuple[dict, bytes]] = []
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        first = codec.Frames(lambda document, blob: None, lambda: None)
        second = codec.Frames(lambda document, blob: frames.append((document, blob)), ended.set)
        for end, frame in zip(ends, (first, second), strict=True):
            await loop.create_unix_connection(lambda frame=frame: frame, sock=end)
        first.write(codec.frame({"id": 1}, bytes(5_000_000)))
        assert first.unsent > 0, "more than a socket holds"
        first.write(codec.frame({"id": 2}))
        first.close()
        await asyncio.wait_for(ended.wait(), 20)
        first.write(codec.frame({"id": 3}))  # nobody is there: nothing happens
        return frames

    assert asyncio.run(over_a_socket()) == [({"id": 1}, bytes(5_000_000)), ({"id": 2}, b"")]


CALLS = [
    SearchCall("me", "q", SearchSettings(top_k=3, filters={"a": 1}), return_text=False),
    Rerank("me", "q", ["a", "b"], truncate="left", budget_ms=3.0),
    Rerank("me", "q", ids=["1"]),
    Embed("me", ["a"], "query"),
    Tokenize("", ["a"], None, special=False),
    Decode("", [[1, 2]]),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
def test_a_call_survives(call):
    [(document, blob)] = heard(codec.call_frame(7, call), [])
    assert (document["id"], blob) == (7, b"")
    assert codec.call_of(document) == call


ANSWERS = [
    (CALLS[0], SearchResponse(b'{"hits":[]}', TIMINGS, "late")),
    (CALLS[1], RerankResult([Reranked(1, 2.5), Reranked(0, -1.0, truncated=True)], 12, TIMINGS, None)),
    (CALLS[2], RerankResult([Reranked(0, 2.5, "text", "1")], 12, TIMINGS, "1 of 2", "cut_short")),
    (CALLS[4], [[{"id": 1}]]),
    (CALLS[5], ["a"]),
]


@pytest.mark.parametrize(("call", "answer"), ANSWERS, ids=lambda each: type(each).__name__)
def test_an_answer_survives(call, answer):
    [(document, blob)] = heard(codec.answer_frame(7, answer), [])
    assert codec.answer_of(call, document["answer"], blob) == answer


def test_vectors_survive():
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    [(document, blob)] = heard(codec.answer_frame(7, Embedded(vectors, 9, 1, TIMINGS)), [])
    read = codec.answer_of(CALLS[3], document["answer"], blob)
    assert np.array_equal(read.vectors, vectors)
    assert (read.tokens, read.truncated, read.timings) == (9, 1, TIMINGS)


def test_an_answer_that_cannot_be_read_is_one_calls_fault():
    """The others on the socket are answered, and the worker lives."""

    async def answered() -> tuple[BaseException | None, SearchResponse, bool]:
        remote = Remote(None, None)
        futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
        remote._waiting = {number: (CALLS[0], future) for number, future in enumerate(futures)}
        remote._answered({"id": 0, "answer": {"degraded_code": None}}, b"")
        remote._answered({"id": 1, "answer": {"timings": dataclasses.asdict(TIMINGS), "degraded_code": None}}, b"{}")
        return futures[0].exception(), futures[1].result(), remote.ended.is_set()

    fault, other, ended = asyncio.run(answered())
    assert isinstance(fault, WorkerFault)
    assert (other, ended) == (SearchResponse(b"{}", TIMINGS, None), False)


def test_an_answer_is_written_as_it_is(engine: Engine):
    """Every field of the result, under its name, and the rank."""
    result: SearchResult = engine.search("read json", budget_ms=None)
    written = found(result, return_text=True)
    read, plain = json.loads(written.body), json.loads(orjson.dumps(result))
    assert {**read, "timings": None} == {
        **plain, "timings": None, "hits": [{"rank": n, **hit} for n, hit in enumerate(plain["hits"], start=1)]
    }  # fmt: skip
    assert read["timings"] == {stage: round(value, 3) for stage, value in plain["timings"].items()}
    assert (written.timings, written.degraded_code) == (result.timings, result.degraded_code)
    without = json.loads(found(result, return_text=False).body)
    assert without["hits"] == [
        {name: value for name, value in hit.items() if name != "text"} for hit in read["hits"]
    ]  # fmt: skip
    assert json.loads(together([written, written])) == {"results": [read, read]}
