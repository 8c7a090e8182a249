"""What a connection may hold: headers, time, an answer unread, and how many of them there are."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable

import pytest

from tandem.engine.server import protocol
from tandem.engine.server.protocol import MAX_HEADER_BYTES, MAX_HEADERS, OTHER_FILES, make_room

from .conftest import KEY, Running

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


def one_answer(connection: socket.socket) -> bytes:
    found = b""
    while b"}" not in found:
        found += connection.recv(65_536)
    return found


def refusals(server: Running, reason: str) -> float:
    return server.service.metrics.registry.get_sample_value("tandem_rejected_total", {"reason": reason}) or 0.0


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "body_timeout"
    assert refusals(server, "slow_headers") == 1


def test_a_byte_now_and_then_is_no_progress(start: Callable[..., Running]):
    server = start(header_timeout_ms=300)

    def gone() -> bool:
        try:
            connection.sendall(b"G")
        except ConnectionError:
            return True
        return False

    with connect(server) as connection:
        wait_for(gone)


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
        try:
            connection.sendall(f"{GET}{headers}\r\n".encode())
        except ConnectionError:
            pass  # closed while the rest was still being sent
        else:
            assert until_closed(connection).startswith((b"HTTP/1.1 431 ", b""))
    assert refusals(server, "too_large") == before + 1


def test_the_status_of_a_head_too_large(server: Running):
    with connect(server) as connection:
        connection.sendall(f"{GET}{''.join(f'X-{n}: 1' + chr(13) + chr(10) for n in range(MAX_HEADERS))}\r\n".encode())
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert str(MAX_HEADERS) in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


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
        with connect(server) as third:
            answer = until_closed(third)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        held.pop().close()

        def served() -> bool:
            with connect(server) as fourth:
                fourth.sendall(f"{GET}\r\n".encode())
                return fourth.recv(65_536).startswith(b"HTTP/1.1 200 ")

        wait_for(served)
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_reads_no_answer_is_ended(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    server = start()
    ask = GET.replace("/readyz", "/openapi.json") + "\r\n"
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(ask.encode() * 500)  # more than sockets of this machine buffer
        wait_for(lambda: refusals(server, "unread") == 1)
    assert server.client.get("/readyz").status_code == 200


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
