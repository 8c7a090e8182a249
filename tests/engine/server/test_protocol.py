"""What a connection may hold: headers, time, an answer unread, and how many of them there are."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable

import pytest

from tandem.engine.server import protocol
from tandem.engine.server.bounded import MAX_HEADER_BYTES, MAX_HEADERS
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
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert body_of(answer)["error"]["type"] == "body_timeout"
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
    [
        "".join(f"X-{number}: 1\r\n" for number in range(MAX_HEADERS)),
        f"X-Long: {'x' * MAX_HEADER_BYTES}\r\n",
        f"X-Long: {'x' * 40 * MAX_HEADER_BYTES}\r\n",
    ],
    ids=["many", "long", "endless"],
)
def test_heads_too_large_are_refused(server: Running, headers: str):
    before = refusals(server, "too_large")
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):  # closed while the rest was still being sent
            connection.sendall(f"{GET}{headers}\r\n".encode())
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert str(MAX_HEADERS) in body_of(answer)["error"]["message"]
    assert refusals(server, "too_large") == before + 1


def test_what_is_no_request_is_told_so(server: Running):
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 TLS on a plain port\r\n\r\n")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1" in answer.partition(b"\r\n\r\n")[2]


def test_one_connection_too_many_is_refused_until_another_ends(start: Callable[..., Running]):
    server = start(max_connections=2)
    held = [connect(server) for _ in range(2)]
    try:
        for connection in held:
            connection.sendall(f"{GET}\r\n".encode())
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
        for body in (b"", b"x" * 200_000):
            with connect(server) as third:
                head = f"POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                third.sendall(head.encode() + body)
                answer = until_closed(third)
            assert answer.startswith(b"HTTP/1.1 503 "), "and no reset, though the body was not read"
            assert 1 <= int(answer.partition(b"\r\nretry-after: ")[2].partition(b"\r\n")[0]) <= 3
        with connect(server) as silent:
            assert until_closed(silent) == b""
        held.pop().close()

        def served() -> bool:
            with connect(server) as fourth:
                fourth.sendall(f"{GET}\r\n".encode())
                return fourth.recv(65_536).startswith(b"HTTP/1.1 200 ")

        until(served)
    finally:
        for connection in held:
            connection.close()


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
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    server = start()
    with connect_small(server) as connection:
        connection.sendall(MANY + last)
        until(lambda: refusals(server, "unread") == 1)
    assert server.client.get("/readyz").status_code == 200


def test_an_unread_answer_below_the_high_water_mark_is_ended_too(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    """Small answers until the sockets are full: what is left of them is too little to pause the writing."""
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    server = start()
    ask = f"{GET}\r\n".encode()
    with connect_small(server) as connection:
        connection.setblocking(False)
        stopped = time.monotonic()
        while time.monotonic() - stopped < 1.0 and refusals(server, "unread") == 0:
            try:
                connection.send(ask * 50)
                stopped = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        until(lambda: refusals(server, "unread") == 1)


def test_a_client_that_reads_slowly_gets_its_whole_answer(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    for name in ("UNREAD_SECONDS", "KEEP_ALIVE_SECONDS"):
        monkeypatch.setattr(protocol, name, 0.5)
    monkeypatch.setattr(protocol, "LEAST_READ", 1024)
    server = start()
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
    assert time.monotonic() - begun > 2.0, "longer than any of the alarms"
    assert refusals(server, "unread") == 0
    assert len(answer.partition(b"\r\n\r\n")[2]) == length


CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("more", ["Content-Length: 1\r\n", CHUNKED])
def test_a_get_has_no_body(server: Running, more: str):
    with connect(server) as connection:
        connection.sendall(f"{GET}{more}\r\n".encode())
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "GET" in body_of(answer)["error"]["message"]


def post(more: str) -> bytes:
    head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\n{more}\r\n".encode()


def test_a_body_answered_before_it_has_come_ends_the_connection(server: Running):
    with connect(server) as connection:
        connection.sendall(post("X-Request-Timeout-Ms: 100\r\nContent-Length: 1000\r\n"))
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_pipelined_requests_with_bodies_are_all_answered(server: Running):
    """The next one's body has not come whole when the one before is answered."""
    body = json.dumps({"inputs": "bread " * 300}).encode()
    request = post(f"Content-Length: {len(body)}\r\n") + body
    with connect(server) as connection:
        connection.sendall(request * 60 + f"{GET}Connection: close\r\n\r\n".encode())
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == 61


@pytest.mark.parametrize("rest", [b"G", b"\x00\r\n\r\n"], ids=["partial", "no request"])
def test_what_follows_a_head_request_is_refused_with_a_body(start: Callable[..., Running], rest: bytes):
    server = start(header_timeout_ms=300)
    with connect(server) as connection:
        connection.sendall(f"{GET}\r\n".replace("GET", "HEAD", 1).encode() + rest)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer if rest == b"G" else b"HTTP/1.1 400 " in answer
    assert answer.endswith(b"}")


def test_a_refusal_reaches_a_client_that_goes_on_sending(start: Callable[..., Running]):
    server = start(max_body_bytes=1000)
    with connect(server) as connection:
        connection.sendall(post("Content-Length: 3000000\r\n"))
        for _ in range(30):
            connection.sendall(b"x" * 100_000)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_flood_beyond_the_limit_is_cut_off(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "MOST_TOLD", 3)
    server = start(max_connections=1)
    with contextlib.ExitStack() as held:
        for _ in range(30):
            held.enter_context(connect(server))
        until(lambda: refusals(server, "connections") >= 30 - 1 - 3)
    until(lambda: server.client.get("/readyz").status_code == 200)


def test_a_body_in_tiny_pieces_is_refused(server: Running):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(post(CHUNKED) + b"1\r\nx\r\n" * 20_000)
        answer = until_closed(connection)
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps({"inputs": "bread " * 300}).encode()
        connection.sendall(post(f"Content-Length: {len(body)}\r\n"))
        for place in range(0, len(body), 2):  # small segments are another thing
            connection.sendall(body[place : place + 2])
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "pieces" in body_of(answer)["error"]["message"]


def test_a_malformed_chunk_is_one_refusal_and_no_error(server: Running, caplog: pytest.LogCaptureFixture):
    with connect(server) as connection:
        connection.sendall(post(CHUNKED) + b"zz\r\n")
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
    monkeypatch.setattr(protocol, "KEEP_ALIVE_SECONDS", 0.5)
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
