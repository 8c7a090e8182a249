"""Requests that end workers: refused for a while, so that the others are served.

What lost its worker is tried once more while no other such request is: that a second one ends is its own fault, unless
somebody ended it from outside. So it takes two such faults with no answer between. Text is kept as a keyed hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import replace
from typing import Any

from . import codec
from .rpc_calls import Call

STRIKES = 2
REMEMBERED = 1024
# Seconds after which a request is tried again: an operator or the kernel may have ended the worker.
TERM = 600.0


class PoisonRequests:
    """Belongs to the event loop. Costs nothing while nobody is suspected."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        """Held while a request that lost a worker is tried again."""
        self._secret = secrets.token_bytes(32)
        self._strikes: dict[bytes, tuple[int, float]] = {}

    def refuses(self, call: Call[Any]) -> bool:
        """Whether it is known to end workers."""
        strikes, until = self._strikes.get(self._key(call), (0, 0.0)) if self._strikes else (0, 0.0)
        return strikes >= STRIKES and time.monotonic() < until

    def strike(self, call: Call[Any]) -> bool:
        """It ended a worker on its own; whether it is refused from now on."""
        strikes, _ = self._strikes.pop(key := self._key(call), (0, 0.0))
        self._strikes[key] = strikes + 1, time.monotonic() + TERM
        if len(self._strikes) > REMEMBERED:
            del self._strikes[next(iter(self._strikes))]
        return strikes + 1 >= STRIKES

    def clear(self, call: Call[Any]) -> None:
        """It was answered."""
        if self._strikes:
            self._strikes.pop(self._key(call), None)

    def _key(self, call: Call[Any]) -> bytes:
        return hashlib.blake2b(codec.call_frame(0, replace(call, client="")), key=self._secret).digest()
