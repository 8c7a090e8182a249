"""Merges of segments beside the server: a process of their own, of low priority, one at a time."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)
MERGE = (sys.executable, "-m", "tandem.engine.build.merging")


class Merges:
    """Merges what is due, one collection after the other. Belongs to the event loop.

    The server moves to what a merge published as to every new version (see `Host.watch_pointer`).
    """

    def __init__(self) -> None:
        self._due: dict[Path, None] = {}
        self._running: asyncio.Task[None] | None = None

    def begin(self, collection: Path) -> None:
        """Merge what is due in a collection, unless that happens already."""
        self._due[collection] = None
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._merge_all())

    async def close(self) -> None:
        """End a merge that is running: it leaves the collection as it was."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _merge_all(self) -> None:
        while self._due:
            collection = next(iter(self._due))
            await _merge(collection)
            del self._due[collection]


async def _merge(collection: Path) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *MERGE, str(collection), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        log.error("a merge cannot be started", extra={"error": str(error)})
        return
    try:
        if code := await process.wait():
            log.error("a merge failed; the segments stay as they are", extra={"status": code})
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
