"""What a connection may hold: headers, time, an answer unread, and how many of them there are."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tandem.engine.server import listener
from tandem.engine.server.fd_limit import OTHER_FILES, make_room

from .conftest import KEY, Running, until

GET = f"GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"


def connect(server: Running) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def until_closed(connection: socket.socket) -> bytes:
    """All that still comes; a reset ends it too, for what we sent and nobody read."""
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def body_of(answer: bytes) -> dict:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def one_answer(connection: socket.socket) -> bytes:
    found = b""
    while b"}" not in found:
        found += connection.recv(65_536)
    return found


def refusals(server: Running, reason: str) -> float:
    return server.service.metrics.registry.get_sample_value("tandem_rejected_total", {"reason": reason}) or 0.0


def sends_until_refused(connection: socket.socket, data: bytes) -> None:
    """Send `data` again and again until the connection is gone."""

    def gone() -> bool:
        try:
            connection.sendall(data)
        except ConnectionError:
            return True
        return False

    until(gone)


@pytest.mark.parametrize("before", [b"", f"{GET}\r\n".encode()], ids=["first", "after another"])
def test_slow_headers_are_ended(start: Callable[..., Running], before: bytes):
    server = start(header_timeout_ms=300)
    with connect(server) as connection:
        if before:
            connection.sendall(before)
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)  # idle between requests is not slow
        connection.sendall(GET.encode())  # without the empty line that ends them
        assert until_closed(connection) == b""
    assert refusals(server, "slow_headers") == 1


def test_a_byte_now_and_then_is_no_progress(start: Callable[..., Running]):
    server = start(header_timeout_ms=300)

    with connect(server) as connection:
        sends_until_refused(connection, b"G")


def test_a_connection_that_asks_nothing_is_closed(start: Callable[..., Running]):
    server = start(header_timeout_ms=200)
    with connect(server) as connection:
        assert until_closed(connection) == b""


def test_headers_that_came_in_time_are_answered_late(start: Callable[..., Running]):
    server = start(header_timeout_ms=200)
    with connect(server) as connection:
        head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        body = b'{"inputs": "bread"}'
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.5)  # the body's time is another
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "headers",
    ["".join(f"X-{number}: 1\r\n" for number in range(1000)), f"X-Long: {'x' * 2**20}\r\n", "x" * 2**22],
    ids=["many", "long", "endless"],
)
def test_heads_too_large_are_refused(server: Running, headers: str):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):  # closed while the rest was still being sent
            connection.sendall(f"{GET}{headers}\r\n".encode())
        assert until_closed(connection)[:13] in (b"", b"HTTP/1.1 400 "), "a reset may overtake the answer"
    assert server.client.get("/readyz").status_code == 200


def test_what_is_no_request_is_told_so(server: Running):
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 TLS on a plain port\r\n\r\n")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_of_too_many_connections_those_go_that_have_waited_longest(start: Callable[..., Running]):
    server = start(max_connections=4)
    with contextlib.ExitStack() as held:
        silent = [held.enter_context(connect(server)) for _ in range(3)]
        time.sleep(2 * listener.LOOK_SECONDS)  # they are older by a look
        kept = held.enter_context(connect(server))
        kept.sendall(f"{GET}\r\n".encode())
        assert one_answer(kept).startswith(b"HTTP/1.1 200 ")
        flood = [held.enter_context(connect(server)) for _ in range(3)]
        for connection in silent:
            assert until_closed(connection) == b""
        assert refusals(server, "connections") == 3
        for connection in (kept, *flood):  # who is new is let in and answered
            connection.sendall(f"{GET}\r\n".encode())
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_request_in_flight_is_never_cut_off_for_a_newcomer(start: Callable[..., Running], held: threading.Event):
    server = start(max_connections=1)
    body = json.dumps({"query": "bread", "texts": ["rye"]}).encode()
    with connect(server) as asking:
        asking.sendall(post("/rerank", f"Content-Length: {len(body)}\r\n") + body)
        until(lambda: len(server.service.in_flight) == 1)
        with connect(server) as probing:
            probing.sendall(f"{GET}\r\n".encode())
            assert one_answer(probing).startswith(b"HTTP/1.1 200 "), "a probe is answered beside it"
            time.sleep(3 * listener.LOOK_SECONDS)
            held.set()
            assert asking.recv(65_536).startswith(b"HTTP/1.1 200 ")


def connect_small(server: Running) -> socket.socket:
    """With the smallest buffer for what comes."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection


MANY = (GET.replace("/readyz", "/openapi.json") + "\r\n").encode() * 500  # more than this machine's sockets buffer


@pytest.mark.parametrize("last", [b"", b"\x00 no request\r\n\r\n"], ids=["kept alive", "closing"])
def test_a_client_that_reads_no_answer_is_ended(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, last: bytes
):
    monkeypatch.setattr(listener, "UNREAD_SECONDS", 0.3)
    server = start()
    with connect_small(server) as connection:
        connection.sendall(MANY + last)
        until(lambda: refusals(server, "unread") == 1)
    assert server.client.get("/readyz").status_code == 200


def test_a_client_that_reads_slowly_gets_its_whole_answer(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "KEEP_ALIVE_SECONDS", 0.5)
    server = start(header_timeout_ms=500)
    texts = json.dumps({"inputs": ["word " * 400] * 130}).encode()
    head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    with connect_small(server) as connection:
        connection.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(texts)}\r\n\r\n".encode() + texts
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(1024)
        assert answer.startswith(b"HTTP/1.1 200 ")
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        begun = time.monotonic()
        while part := connection.recv(32 * 1024):
            answer += part
            if time.monotonic() - begun < 2.5:
                time.sleep(0.05)
    assert time.monotonic() - begun > 2.0, "longer than what a head or an idle connection has"
    assert refusals(server, "unread") == 0
    assert len(answer.partition(b"\r\n\r\n")[2]) == length


CHUNKED = "Transfer-Encoding: chunked\r\n"


def post(path: str, more: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\n{more}\r\n".encode()


def test_a_body_answered_before_it_has_come_belongs_to_nothing_else(server: Running):
    """What comes of it later is no request."""
    with connect(server) as connection:
        connection.sendall(post("/tokenize", "X-Request-Timeout-Ms: 100\r\nContent-Length: 100\r\n"))
        assert one_answer(connection).startswith(b"HTTP/1.1 504 ")
        connection.sendall(f"{GET}\r\n".encode().ljust(100, b"x")[:100] + f"{GET}Connection: close\r\n\r\n".encode())
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == 1


def test_pipelined_requests_with_bodies_are_all_answered(server: Running):
    """The next one's body has not come whole when the one before is answered."""
    body = json.dumps({"inputs": "bread " * 300}).encode()
    request = post("/tokenize", f"Content-Length: {len(body)}\r\n") + body
    with connect(server) as connection:
        connection.sendall(request * 60 + f"{GET}Connection: close\r\n\r\n".encode())
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == 61


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ],
)
def test_a_body_framed_in_two_ways_ends_the_connection(server: Running, framing: str):
    """RFC 9112 6.1 and 6.3: what follows it may be smuggled."""
    body = b'14\r\n{"inputs": "bread"}\r\n0\r\n\r\n'
    with connect(server) as connection:
        connection.sendall(post("/tokenize", framing) + body + f"{GET}\r\n".encode())
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("late", [b"\r\n", b"x", f"{GET}\r\n".encode()], ids=["line", "byte", "request"])
@pytest.mark.parametrize("split", [False, True])
def test_what_comes_late_does_not_take_the_place_of_an_answer(
    start: Callable[..., Running], held: threading.Event, late: bytes, split: bool
):
    server = start()
    body = json.dumps({"query": "bread", "texts": ["rye"]}).encode()
    asked = post("/rerank", f"Connection: close\r\nContent-Length: {len(body)}\r\n") + body
    with connect(server) as connection:
        if split:
            connection.sendall(asked[:20])
            time.sleep(0.05)
        connection.sendall(asked[20 if split else 0 :])
        until(lambda: len(server.service.in_flight) == 1)
        connection.sendall(late)
        time.sleep(0.05)
        held.set()
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_refusal_reaches_a_client_that_goes_on_sending(start: Callable[..., Running]):
    server = start(max_body_bytes=1000, header_timeout_ms=1000)
    with connect(server) as connection:
        connection.sendall(post("/tokenize", "Content-Length: 3000000\r\n"))
        for _ in range(30):
            connection.sendall(b"x" * 100_000)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_malformed_chunk_is_one_refusal_and_no_error(server: Running, caplog: pytest.LogCaptureFixture):
    with connect(server) as connection:
        connection.sendall(post("/tokenize", CHUNKED) + b"zz\r\n")
        answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 400 ") == 1
    with connect(server) as connection:
        connection.sendall(f"{GET}\r\n".encode() + b"zz\r\n\r\n")
        answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 400 ") == 1
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_an_offer_to_upgrade_is_answered_and_not_warned_of(server: Running, caplog: pytest.LogCaptureFixture):
    with connect(server) as connection:
        connection.sendall(f"{GET}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n".encode())
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
    assert "pgrade" not in caplog.text


def test_blank_lines_do_not_keep_a_connection(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "KEEP_ALIVE_SECONDS", 0.5)
    server = start(header_timeout_ms=500)

    with connect(server) as connection:
        connection.sendall(f"{GET}\r\n".encode())
        one_answer(connection)
        sends_until_refused(connection, b"\r\n")


def test_room_is_made_for_the_connections(caplog: pytest.LogCaptureFixture):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
        make_room(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300 + OTHER_FILES
        make_room(10)  # never less
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300 + OTHER_FILES
        if hard != resource.RLIM_INFINITY:
            make_room(hard)
            assert "fewer files" in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_whose_bodies_do_not_come_make_room_too(start: Callable[..., Running]):
    server = start(max_connections=3)
    with contextlib.ExitStack() as held:
        for _ in range(9):
            held.enter_context(connect(server)).sendall(post("/rerank", "Content-Length: 100\r\n") + b"{")
        until(lambda: refusals(server, "connections") >= 6)
        assert server.client.get("/livez").status_code == 200


def test_a_head_that_comes_in_two_pieces_after_a_long_pause_is_answered(start: Callable[..., Running]):
    server = start(header_timeout_ms=600)
    with connect(server) as connection:
        connection.sendall(f"{GET}\r\n".encode())
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
        time.sleep(1.5)  # idle for longer than a head may take
        connection.sendall(GET.encode()[:20])
        time.sleep(0.05)
        connection.sendall(GET.encode()[20:] + b"\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_only_reading_a_probe_needs_no_key(server: Running):
    """A body to one would fill the room for bodies without a key."""
    with connect(server) as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 401 ")
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


class Kept:
    """As much of a connection of uvicorn's as is looked at: answered once, and idle or awaiting a head."""

    def __init__(self, *, idle: bool) -> None:
        self.closed = False
        self.transport = SimpleNamespace(get_write_buffer_size=lambda: 0, close=self._close)
        self.timeout_keep_alive_task = object() if idle else None
        self.answered()

    def _close(self) -> None:
        self.closed = True

    def answered(self) -> None:
        self.cycle = SimpleNamespace(response_complete=True, more_body=False)


def looking(connections: set[Kept], most: int) -> listener.Connections:
    server = SimpleNamespace(server_state=SimpleNamespace(connections=connections))
    return listener.Connections(server, head_seconds=1.0, most=most, refused=lambda reason: None)


def test_who_asks_one_thing_after_the_other_is_never_late_with_a_head():
    """At each look its next head has begun to come, and it is another one."""
    busy, slow = Kept(idle=False), Kept(idle=False)
    looks = looking({busy, slow}, most=10)
    for place in range(100):
        busy.answered()
        looks.look(place * 0.25)
    assert (busy.closed, slow.closed) == (False, True)


def test_who_was_answered_last_is_cut_off_last():
    first, second, third = Kept(idle=True), Kept(idle=True), Kept(idle=True)
    opened = {first, second, third}
    looks = looking(opened, most=3)
    looks.look(0.0)
    for each in (first, second, third):
        each.answered()
        looks.look(1.0)
    first.answered()
    looks.look(2.0)
    opened.add(Kept(idle=True))
    looks.look(3.0)
    assert [each.closed for each in (first, second, third)] == [False, True, False]
