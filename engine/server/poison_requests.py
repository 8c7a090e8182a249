"""Requests that seem to end workers: run alone to be sure, then not run at all.

A request that lost two workers may be to blame, or may have been beside the one that is. When it comes again it runs
while no other suspect does; if that ends a third worker it is refused, for ten minutes. Text is kept as a keyed hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from . import codec
from .rpc_calls import Call

REMEMBERED = 1024
# Seconds after which a request is tried again: an operator or the kernel may have ended the worker.
TERM = 600.0


class Suspects:
    """Belongs to the event loop. Costs nothing while nobody is suspected."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        """Held while a suspect runs."""
        self._secret = secrets.token_bytes(32)
        self._suspected: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()

    def suspect(self, call: Call[Any]) -> None:
        """It lost two workers."""
        self._remember(self._key(call), convicted=False)

    def convict(self, call: Call[Any]) -> None:
        """It ended a worker on its own."""
        self._remember(self._key(call), convicted=True)

    def clear(self, call: Call[Any]) -> None:
        """It was answered."""
        self._suspected.pop(self._key(call), None)

    def verdict(self, call: Call[Any]) -> bool | None:
        """None: not suspected; False: suspected; True: convicted."""
        if not self._suspected:
            return None
        convicted, until = self._suspected.get(key := self._key(call), (None, 0.0))
        if convicted is not None and time.monotonic() > until:
            del self._suspected[key]
            return None
        return convicted

    def _remember(self, key: bytes, *, convicted: bool) -> None:
        self._suspected[key] = convicted, time.monotonic() + TERM
        self._suspected.move_to_end(key)
        while len(self._suspected) > REMEMBERED:
            self._suspected.popitem(last=False)

    def _key(self, call: Call[Any]) -> bytes:
        return hashlib.blake2b(codec.call_frame(0, replace(call, client="")), key=self._secret).digest()
