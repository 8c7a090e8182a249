"""What a connection is watched with: its transport, counting, and alarms."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any


class Counting:
    """A transport whose `close` is another's to decide; `sent`: bytes of all answers."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.sent = 0
        self.close = close
        self.is_closing = transport.is_closing
        self._transport = transport

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._transport.write(data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.sent += sum(map(len, parts))
        self._transport.writelines(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Alarm:
    """Does `do` once, `set` so many seconds ago; setting it again while it runs changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, do: Callable[[], None]) -> None:
        self._loop = loop
        self._do = do
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._ring)

    def off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._do()


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not taken: in our buffer and in the system's, which alone may hold megabytes."""
    queued = bytearray(4)
    with contextlib.suppress(OSError):  # closed meanwhile
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
