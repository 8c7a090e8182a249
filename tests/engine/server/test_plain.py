"""Plain requests against h11: whatever is read without it, it reads the same."""

from __future__ import annotations

import gc
import json
import re
import socket
import threading
import time
from collections.abc import Callable

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tandem.engine.server import ServerSettings, protocol
from tandem.engine.server.bounded import MAX_HEADER_BYTES, MAX_HEADERS
from tandem.engine.server.plain import Exchange, read_head
from tandem.engine.server.protocol import Config

from .conftest import KEY, Running, serving, until
from .test_protocol import GET, body_of, connect, connect_small, one_answer, post, refusals, until_closed

NAMES = [b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"TE", b"X-A"]
ODD_NAMES = [b"", b"X A", b"X_A", b"X\x00", "Ü".encode(), b"Content-Length "]
VALUES = [b"", b"a", b"0", b"3", b"+3", b"3, 3", b"03", b"1" * 16, b"keep-alive", b"close", b"Close", b"keep-alive, x"]
ODD_VALUES = [
    b"chunked",
    b"100-continue",
    b"a\tb",
    b"a\x00",
    b"a\rb",
    b"a\nb",
    "ü".encode(),
    b" a ",
    b"a\r\n b",
    b"x" * 99,
]
TARGETS = [
    b"/rerank",
    b"/v1/search?a=1&b=%2F",
    b"/",
    b"//x",
    b"/a%20b",
    b"*",
    b"http://a/b",
    b"/\xc3\xbc",
    b"",
    b"/a b",
]
LINE = st.tuples(
    st.sampled_from(NAMES) | st.sampled_from(ODD_NAMES),
    st.sampled_from([b": ", b":", b" : ", b":\t", b""]),
    st.sampled_from(VALUES) | st.sampled_from(ODD_VALUES),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly right in most places, so that every rule is met alone."""
    method = draw(st.sampled_from([b"POST"] * 6 + [b"post", b"GET", b"P\x00ST"]))
    target = draw(st.sampled_from(TARGETS))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"]))
    body = draw(st.binary(max_size=5))
    length = max(0, len(body) + draw(st.sampled_from([0, 0, 0, 0, 2, -2])))
    lines = [b"Host: a\r\n"] * draw(st.sampled_from([1, 1, 1, 0, 2]))
    lines += [b"Content-Length: %d\r\n" % length] * draw(st.sampled_from([1, 1, 1, 0, 2]))
    lines += [b"".join(line) for line in draw(st.lists(LINE, max_size=2))]
    start = b" ".join((method, target, version)) + draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b" \r\n"]))
    end = draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b""]))
    return start + b"".join(draw(st.permutations(lines))) + end + body


@settings(max_examples=1500)
@given(requests())
@example(b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
@example(b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx")
@example(b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
def test_what_is_read_as_plain_is_what_h11_reads(data: bytes):
    head = read_head(data, MAX_HEADER_BYTES, MAX_HEADERS)
    if head is None:
        return
    reference = h11.Connection(h11.SERVER)
    reference.receive_data(data)
    request = reference.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (b"POST", head.target, b"1.1")
    assert [(name.lower(), value) for name, value in request.headers] == head.headers
    body = b""
    while isinstance(event := reference.next_event(), h11.Data):
        body += bytes(event.data)
    assert body == data[head.size :]
    assert isinstance(event, h11.EndOfMessage) == (len(body) == head.length)
    assert reference.trailing_data[0] == b""


HEADS = {
    "http.client": "POST /rerank HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept-Encoding: identity\r\nContent-Length: 9\r\n"
    "content-type: application/json\r\n\r\n",
    "httpx": "POST /rerank HTTP/1.1\r\nHost: localhost:80\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Connection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\nContent-Length: 9\r\n"
    "Content-Type: application/json\r\n\r\n",
    "curl": "POST /rerank HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n",
    "node": "POST /rerank HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\naccept: */*\r\n"
    "accept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\ncontent-length: 9\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_what_clients_send_is_plain(head: str):
    data = head.encode()
    for body in (b"", b"123456789"):
        read = read_head(data + body, MAX_HEADER_BYTES, MAX_HEADERS)
        assert read is not None
        assert (read.target, read.length, read.size) == (b"/rerank", 9, len(data))
    assert read_head(data + b"123456789P", MAX_HEADER_BYTES, MAX_HEADERS) is None, "another request follows"
    assert read_head(data, len(data) - 1, MAX_HEADERS) is None
    assert read_head(data, len(data), head.count(":") - 3) is None
    assert read_head(data[:-1], MAX_HEADER_BYTES, MAX_HEADERS) is None


BODY = b'{"inputs": "bread"}'
LENGTH = f"Content-Length: {len(BODY)}\r\n"
RIGHT = post(LENGTH) + BODY
SPECIAL = post(f"{LENGTH}TE: trailers\r\n") + BODY  # by h11


def told(answer: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Status line, headers and body, without what differs from one answer to the next."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.lower().split(b"\r\n")
    return (
        status, {line for line in headers if not line.startswith((b"date", b"x-request-id"))},
        re.sub(rb"[0-9a-f]{32}", b"", body),
    )  # fmt: skip


@pytest.mark.parametrize(
    "change", [(b"", b""), (b"bread", b"br\xffad"), (b"/tokenize", b"/nowhere"), (KEY.encode(), b"x")]
)
def test_an_answer_is_that_of_h11(server: Running, change: tuple[bytes, bytes]):
    answers = []
    for request in (RIGHT, SPECIAL):
        with connect(server) as connection:
            changed = request.replace(*change).replace(b"Host:", b"Connection: close\r\nHost:")
            connection.sendall(changed)
            answers.append(told(until_closed(connection)))
    assert answers[0] == answers[1]
    assert b"connection: close" in answers[0][1]


def test_plain_and_other_requests_take_turns_on_a_connection(server: Running):
    with connect(server) as connection:
        for request in (RIGHT, SPECIAL, RIGHT, RIGHT, f"{GET}\r\n".encode(), RIGHT):
            connection.sendall(request)
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_body_may_come_in_pieces(server: Running, step: int):
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(RIGHT[: -len(BODY)])
        for place in range(0, len(BODY), step):
            time.sleep(0.01)
            connection.sendall(BODY[place : place + step])
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("request_", [RIGHT, SPECIAL, f"{GET}\r\n".encode()], ids=["plain", "other", "get"])
def test_what_comes_during_a_request_waits_for_its_answer(server: Running, request_: bytes):
    """The body's last byte comes with the next request behind it, and one more while that is served."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(RIGHT[:-1])
        time.sleep(0.05)
        connection.sendall(RIGHT[-1:] + request_ * 3)
        connection.sendall(RIGHT.replace(b"Host:", b"Connection: close\r\nHost:"))
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == 5


def test_a_refusal_before_the_body_ends_the_connection(server: Running):
    with connect(server) as connection:
        connection.sendall(post(LENGTH).replace(KEY.encode(), b"wrong"))
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_garbage_behind_a_plain_request_is_refused_after_its_answer(server: Running):
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(RIGHT[:-1])
        time.sleep(0.05)
        connection.sendall(RIGHT[-1:] + b"zz\r\n\r\n")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert body_of(answer[answer.index(b"HTTP/1.1 400 ") :])["error"]["type"] == "validation"


def cancelled(server: Running) -> float:
    return server.service.metrics.registry.get_sample_value("tandem_cancelled_total") or 0.0


def rerank(characters: int) -> tuple[bytes, bytes]:
    """A request's head and body."""
    body = json.dumps({"query": "q", "texts": ["word " * (characters // 5)]}).encode()
    return post(f"Content-Length: {len(body)}\r\n").replace(b"/tokenize", b"/rerank"), body


@pytest.mark.parametrize("characters", [100, 100_000, 900_000])
@pytest.mark.parametrize("behind", [b"", b"\r\n", RIGHT], ids=["alone", "blank line", "another"])
def test_a_client_that_leaves_is_noticed(server: Running, held: threading.Event, characters: int, behind: bytes):
    before = cancelled(server)
    head, body = rerank(characters)
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head)
        time.sleep(0.05)
        connection.sendall(body + behind)
        until(lambda: server.service.admission.requests == 1)
    until(lambda: cancelled(server) == before + 1, 5)
    assert not server.service.in_flight


def test_a_client_that_leaves_in_the_middle_of_its_body_is_noticed(server: Running):
    before = cancelled(server)
    with connect(server) as connection:
        connection.sendall(RIGHT[:-1])
        until(lambda: len(server.service.in_flight) == 1)
    until(lambda: cancelled(server) == before + 1)
    assert not server.service.in_flight


START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
BODY_OF_4 = {"type": "http.response.body", "body": b"four"}
FAULTS = {
    "raises at once": [],
    "raises before the body": [START],
    "says no length": [{**START, "headers": []}, BODY_OF_4],
    "says too much": [START, {**BODY_OF_4, "body": b"one"}],
    "says too little": [START, {**BODY_OF_4, "body": b"a dozen"}],
    "breaks a line": [{**START, "headers": [*START["headers"], (b"x", b"a\r\nb: c")]}, BODY_OF_4],
    "has a status of its own": [{**START, "status": 299}, BODY_OF_4],
    "begins twice": [START, START],
    "stops in the middle": [START, {**BODY_OF_4, "body": b"fo", "more_body": True}],
}


@pytest.mark.parametrize("sent", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("how", ["raises", "returns"])
def test_an_application_at_fault_holds_no_connection(sent: list[dict], how: str):
    async def application(scope, receive, send):
        for message in sent:
            await send(message)
        if how == "raises":
            raise RuntimeError("at fault")

    config = Config(application, ServerSettings())
    with serving(config) as url, socket.create_connection(url, timeout=20) as connection:
        connection.sendall(RIGHT)
        answer = until_closed(connection)
    if sent == FAULTS["stops in the middle"]:
        assert answer.endswith(b"\r\n\r\nfo")
    else:
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.count(b"HTTP/1.1") == 1


def test_an_exchange_leaves_nothing_behind(server: Running):
    def alive() -> int:
        return sum(type(each) is Exchange for each in gc.get_objects())

    with connect(server) as connection:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(20):
                connection.sendall(RIGHT)
                one_answer(connection)
            # The connection's last one, and beside other load one more that the server is about to let go.
            until(lambda: alive() - before <= 2)
        finally:
            gc.enable()


def test_an_answer_that_nobody_reads_ends_the_connection(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    server = start()
    texts = json.dumps({"inputs": ["word " * 400] * 130}).encode()
    with connect_small(server) as connection:
        connection.sendall(post(f"Content-Length: {len(texts)}\r\n") + texts)
        until(lambda: refusals(server, "unread") == 1)


def test_a_head_that_is_slow_or_too_large_is_refused_as_ever(start: Callable[..., Running]):
    server = start(header_timeout_ms=300)
    with connect(server) as connection:
        connection.sendall(RIGHT[:40])
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
    with connect(server) as connection:
        connection.sendall(RIGHT.replace(b"Host:", b"X: " + b"x" * MAX_HEADER_BYTES + b"\r\nHost:"))
        assert until_closed(connection).startswith(b"HTTP/1.1 431 ")


def test_an_answer_longer_than_the_sockets_is_whole(server: Running):
    texts = json.dumps({"inputs": ["word " * 400] * 100}).encode()
    with connect(server) as connection:
        connection.sendall(post(f"Connection: close\r\nContent-Length: {len(texts)}\r\n") + texts)
        time.sleep(0.3)
        head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    assert int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]) == len(body) > 1_000_000
    assert len(json.loads(body)) == 100
