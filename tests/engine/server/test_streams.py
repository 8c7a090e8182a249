"""Bytes that go wrong on a connection: what came whole before them is answered as a well-behaved client is answered.

h11 reads the answers, so that what the server writes is judged by another's parser.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Iterator

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import KEY, Running
from .test_listener import connect

HEAD = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\nX-Request-Id: stream\r\n"
EXAMPLES = int(os.environ.get("TANDEM_STREAMS", "60"))
BOUNDED = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Answer = tuple[int, bytes]


def _post(path: str, body: object, *, chunks: int = 0) -> bytes:
    data = json.dumps(body).encode()
    start = f"POST {path} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    if not chunks:
        return f"{start}Content-Length: {len(data)}\r\n\r\n".encode() + data
    pieces = [data[place : place + chunks] for place in range(0, len(data), chunks)]
    body_of = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"{start}Transfer-Encoding: chunked\r\n\r\n".encode() + body_of + b"0\r\n\r\n"


REQUESTS = [
    f"GET /readyz HTTP/1.1\r\n{HEAD}\r\n".encode(),
    f"GET /v1/models?of=all HTTP/1.1\r\n{HEAD}\r\n".encode(),
    f"GET /nowhere/%41 HTTP/1.1\r\n{HEAD}\r\n".encode(),
    _post("/tokenize", {"inputs": "bread and butter"}),
    _post("/tokenize", {"inputs": ["rye", "wheat"]}, chunks=7),
    _post("/embed", {"inputs": "bread"}),
    _post("/tokenize", {"wrong": 1}),
]
streams = st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=5)
SPLICES = [b"", b"\r\n", b"\n", b"\x00", b" ", b"x", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
           b"Connection: close\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"%zz%", b"A" * 5000]  # fmt: skip


def talk(server: Running, pieces: list[bytes]) -> bytes:
    """All that is answered until the server closes or has said nothing for a while after the last piece."""
    found = b""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.settimeout(10)
            while part := connection.recv(65_536):
                found += part
        except ConnectionError:
            pass
    return found


def answers(data: bytes, methods: int) -> Iterator[Answer]:
    """Read by h11 as the client that sent as many requests; raises what it raises for what is no HTTP."""
    reader = h11.Connection(h11.CLIENT)
    reader.receive_data(data)
    reader.receive_data(b"")
    for _ in range(methods):
        reader.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
        reader.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        if not status:
            return
        yield status, body
        if reader.our_state is not h11.DONE or reader.their_state is not h11.DONE:
            return
        reader.start_next_cycle()


LAST = f"GET /livez HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode()


@pytest.fixture(scope="module")
def expected(server: Running) -> list[Answer]:
    """What each request is answered by itself."""
    return [next(answers(talk(server, [request + LAST]), 2)) for request in REQUESTS]


@BOUNDED
@given(places=streams, cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_however_a_stream_is_cut_each_request_is_answered_in_its_turn(
    server: Running, expected: list[Answer], places: list[int], cuts: list[int]
):
    stream = b"".join(REQUESTS[place] for place in places) + LAST
    ends = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(ends)]
    found = list(answers(talk(server, pieces), len(places) + 1))
    assert found[:-1] == [expected[place] for place in places]
    assert found[-1][0] == 200


@BOUNDED
@given(
    places=streams,
    at=st.floats(0, 1, exclude_max=True),
    gone=st.integers(0, 12),
    splice=st.sampled_from(SPLICES) | st.text(st.characters(max_codepoint=127), max_size=8).map(str.encode),
)
def test_what_goes_wrong_later_changes_no_answer_before(
    server: Running, expected: list[Answer], places: list[int], at: float, gone: int, splice: bytes
):
    stream = b"".join(REQUESTS[place] for place in places)
    start = int(at * len(stream))
    whole, end = 0, 0
    for place in places:
        end += len(REQUESTS[place])
        whole += end <= start
    mutated = stream[:start] + splice + stream[start + gone :] + LAST
    with connect(server) as connection:
        connection.sendall(mutated)
        connection.settimeout(0.3)
        data = b""
        try:
            while part := connection.recv(65_536):
                data += part
        except (TimeoutError, ConnectionError):
            pass  # it waits for what was cut out, as it should
    found = list(answers(data, len(places) + 20))
    assert found[:whole] == [expected[place] for place in places[:whole]]
    assert all(status < 500 for status, _ in found)
    assert server.client.get("/livez").status_code == 200


def test_a_path_that_is_not_ascii_ends_its_connection_and_nothing_else(server: Running):
    """uvicorn gives it no answer."""
    with connect(server) as connection:
        connection.sendall(f"GET /\u00e9 HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert connection.recv(65_536) == b""
    assert server.client.get("/livez").status_code == 200
