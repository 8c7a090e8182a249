"""Merges of segments beside the server: a process of their own, of low priority, one at a time."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)
MERGE = (sys.executable, "-m", "tandem.engine.build.merging")


class Merges:
    """Begins a merge when one is due and none is running. Belongs to the event loop.

    The server moves to what a merge published as to every new version (see `Host.watch_pointer`).
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    def begin(self, collection: Path) -> None:
        """Merge what is due, unless that happens already."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(_merge(collection))

    async def close(self) -> None:
        """End a merge that is running: it leaves the collection as it was."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


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
