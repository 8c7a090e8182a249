"""Frames over the socket of a worker: whole however they are cut, and answers that survive them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import socket
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import Engine
from tandem.engine.config import SearchSettings
from tandem.engine.result import Embedded, Reranked, RerankResult, SearchResult, Timings
from tandem.engine.server import codec
from tandem.engine.server.backend import WorkerFault, WorkerLost
from tandem.engine.server.rpc_calls import Decode, Embed, Rerank, SearchCall, Tokenize
from tandem.engine.server.search_response import SearchResponse, found, together
from tandem.engine.server.worker_client import Remote
from tandem.engine.text.prompting import PromptWish

DOCUMENTS = st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers(-9, 9)), st.binary(max_size=40)))
TIMINGS = Timings(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 21.0)


def heard(data: bytes, cuts: list[int]) -> list[tuple[dict, bytes]]:
    async def read() -> list[tuple[dict, bytes]]:
        reader, frames = asyncio.StreamReader(), []
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, stop in itertools.pairwise(places):
            reader.feed_data(data[start:stop])
            await asyncio.sleep(0)
        reader.feed_eof()
        while (found := await codec.read_frame(reader)) is not None:
            frames.append(found)
        return frames

    return asyncio.run(read())


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 2**16), max_size=12))
def test_frames_are_whole_however_they_are_cut(sent: list[tuple[dict, bytes]], cuts: list[int]):
    data = b"".join(codec.frame(document, blob) for document, blob in sent)
    assert heard(data, cuts) == sent


def test_half_a_frame_is_none():
    whole = codec.frame({"id": 1}, b"abc")
    assert heard(whole + whole[:-1], []) == [({"id": 1}, b"abc")]


CALLS = [
    SearchCall("me", "q", SearchSettings(top_k=3, filters={"a": 1}, instruction="find"), return_text=False),
    Rerank("me", "q", ["a", "b"], truncate="left", budget_ms=3.0),
    Rerank("me", "q", ids=["1"]),
    Embed("me", ["a"], PromptWish(text="query: ")),
    Tokenize("", ["a"], PromptWish("query"), special=False),
    Decode("", [[1, 2]]),
    Rerank("me", "q", ["a"], wish=PromptWish("code", instruction="find code")),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
def test_a_call_survives(call):
    [(document, blob)] = heard(codec.call_frame(7, call, "notes"), [])
    assert (document["id"], blob) == (7, b"")
    assert codec.call_of(document) == call
    assert document["collection"] == "notes"


ANSWERS = [
    (CALLS[0], SearchResponse(b'{"hits":[]}', TIMINGS, "late")),
    (CALLS[1], RerankResult([Reranked(1, 2.5), Reranked(0, -1.0, truncated=True)], 12, TIMINGS, None)),
    (CALLS[2], RerankResult([Reranked(0, 2.5, "text", "1")], 12, TIMINGS, "1 of 2", "cut_short")),
    (CALLS[4], b'[[{"id": 1}]]'),
    (CALLS[5], ["a"]),
]


@pytest.mark.parametrize(("call", "answer"), ANSWERS, ids=lambda each: type(each).__name__)
def test_an_answer_survives(call, answer):
    [(document, blob)] = heard(codec.answer_frame(7, call, answer), [])
    assert call.unpack(document["answer"], blob) == answer


def test_vectors_survive():
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    [(document, blob)] = heard(codec.answer_frame(7, CALLS[3], Embedded(vectors, 9, 1, TIMINGS)), [])
    read = CALLS[3].unpack(document["answer"], blob)
    assert np.array_equal(read.vectors, vectors)
    assert (read.tokens, read.truncated, read.timings) == (9, 1, TIMINGS)


def test_an_answer_that_cannot_be_read_is_one_calls_fault():
    """The others on the socket are answered, and the worker lives."""

    async def answered() -> tuple[BaseException | None, SearchResponse, bool]:
        remote = Remote(None, None, None, None)
        faulty, good = (asyncio.get_running_loop().create_future() for _ in range(2))
        told = {"body": "", "timings": dataclasses.asdict(TIMINGS), "degraded_code": None}
        remote._answered(CALLS[0], faulty, {"id": 0, "answer": {"degraded_code": None}}, b"")
        remote._answered(CALLS[0], good, {"id": 1, "answer": told}, b"{}")
        return faulty.exception(), good.result(), remote.ended.is_set()

    fault, other, ended = asyncio.run(answered())
    assert isinstance(fault, WorkerFault)
    assert (other, ended) == (SearchResponse(b"{}", TIMINGS, None), False)


def test_a_call_to_a_worker_whose_socket_has_closed_is_lost_and_no_fault():
    """The socket closes a moment before anybody hears how the process ended."""

    async def called() -> tuple[type[BaseException], bool]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        remote = Remote(SimpleNamespace(kill=lambda: None), reader, writer, None)
        theirs.close()
        writer.close()
        await writer.wait_closed()
        with pytest.raises(WorkerLost) as lost:
            await remote.run(CALLS[0], "notes")
        return lost.type, remote.ended.is_set()

    assert asyncio.run(called()) == (WorkerLost, True)


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
