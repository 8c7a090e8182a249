"""Requests that end workers: refused for a while, so that the others are served.

What lost its worker is tried once more while no other such request is: that a second one ends is likely its own fault,
where the first may have been another's. An answer clears it. Text is kept as a keyed hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import weakref
from dataclasses import replace
from typing import Any

from . import codec
from .backend import Backend
from .rpc_calls import Call

# Refused from as many on: a worker that ended under it counts one, and two where no other request was tried again.
STRIKES = 4
REMEMBERED = 1024
# Seconds after which a request is tried again: an operator or the kernel may have ended the worker.
TERM = 600.0


class PoisonRequests:
    """Belongs to the event loop. Costs nothing while nobody is suspected."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        """Held while a request that lost a worker is tried again."""
        self._secret = secrets.token_bytes(32)
        self._strikes: dict[bytes, tuple[int, float, weakref.ref[Backend]]] = {}
        """Strikes, until when they count, and the worker of the last one."""

    def refuses(self, call: Call[Any]) -> bool:
        """Whether it is known to end workers."""
        found = self._strikes.get(self._key(call)) if self._strikes else None
        return found is not None and found[0] >= STRIKES and time.monotonic() < found[1]

    def strike(self, call: Call[Any], worker: Backend, *, alone: bool) -> bool:
        """`worker` ended under it; whether it is refused from now on. One worker counts once, however many asked it."""
        key, now = self._key(call), time.monotonic()
        found = self._strikes.pop(key, None)
        strikes = 0 if found is None or now > found[1] else found[0]
        if found is None or found[2]() is not worker:
            strikes += 1 + alone
        self._strikes[key] = strikes, now + TERM, weakref.ref(worker)
        if len(self._strikes) > REMEMBERED:
            del self._strikes[next(iter(self._strikes))]
        return strikes >= STRIKES

    def clear(self, call: Call[Any]) -> None:
        """It was answered."""
        if self._strikes:
            self._strikes.pop(self._key(call), None)

    def _key(self, call: Call[Any]) -> bytes:
        return hashlib.blake2b(codec.call_frame(0, replace(call, client=""), ""), key=self._secret).digest()
