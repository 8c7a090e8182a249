"""The worker process: an engine behind a socket. Started by `remote`; ends when its parent is gone.

It owns the device, so whatever ends it (a fault of a driver, a native crash, the system running out of memory) leaves
the HTTP process alive, which starts another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

import uvloop

from ..collection import Pointer
from ..engine import Engine
from ..errors import TandemError
from . import logs, wire
from .facts import facts_of

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.2


class _Worker:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, engine: Engine) -> None:
        self._reader = reader
        self._writer = writer
        self._engine = engine
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._batches: list[tuple[int, int]] = []
        engine.batcher.on_batch = self._batch

    def _batch(self, sequences: int, tokens: int) -> None:
        self._batches.append((sequences, tokens))

    async def serve(self) -> None:
        """Answer calls until the parent is gone."""
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                document, _ = await wire.read(self._reader)
                number: int = document.get("id", -1)
                if "cancel" in document:
                    if (task := self._tasks.pop(document["cancel"], None)) is not None:
                        task.cancel()
                    continue
                self._tasks[number] = asyncio.create_task(self._answer(number, document))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            beating.cancel()

    async def _answer(self, number: int, document: wire.Document) -> None:
        try:
            data = wire.answer_frame(number, await wire.call_of(document).run(self._engine))
        except Exception as error:  # whatever it is, it belongs to this call, and its caller must hear of it
            if not isinstance(error, TandemError):
                log.error("unexpected error", extra={"error": _where(error)})
            data = wire.error_frame(number, error)
        finally:
            self._tasks.pop(number, None)
        await self._send(data)

    async def _beat(self) -> None:
        """Say what waits, how long the micro-batch that runs has been running, and what was learnt of the costs."""
        engine, batcher = self._engine, self._engine.batcher
        while True:
            if batcher.broken is not None:
                # What a broken device answers may be wrong, and only another process gets a sound one.
                log.error("the device is broken: this worker ends", extra={"error": str(batcher.broken)})
                os._exit(1)
            batches, self._batches = self._batches, []
            busy = batcher.busy_since
            await self._send(wire.frame({
                "beat": {
                    "jobs": batcher.waiting_jobs,
                    "tokens": batcher.waiting_tokens,
                    "busy": 0.0 if busy is None else time.monotonic() - busy,
                    "batches": batches,
                    "drift": [model.cost.drift for model in engine.models],
                }
            }))  # fmt: skip
            await asyncio.sleep(BEAT_SECONDS)

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def _run(bound: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=bound, limit=2**20)
    order, _ = await wire.read(reader)
    gone = asyncio.create_task(reader.read(1))  # nothing is sent while the models load: a read that ends is the end
    opening = asyncio.create_task(asyncio.to_thread(_open, order))
    await asyncio.wait({gone, opening}, return_when=asyncio.FIRST_COMPLETED)
    if gone.done():
        os._exit(0)
    gone.cancel()
    await asyncio.wait({gone})
    try:
        engine = await opening
    except Exception as error:
        if not isinstance(error, TandemError):
            log.error("the engine cannot be opened", extra={"error": _where(error)})
        writer.write(wire.error_frame(0, error))
        await writer.drain()
        return
    writer.write(wire.frame({"id": 0, "answer": facts_of(engine)}))
    await _Worker(reader, writer, engine).serve()
    # The device thread may be deep in a library that never returns: nothing is left to save, so do not wait for it.
    os._exit(0)


def _open(order: wire.Document) -> Engine:
    version = None if order["version"] is None else Pointer(*order["version"])
    settings: dict[str, Any] = order["settings"]
    return Engine.open(order["collection"], version=version, **settings)


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return type(error).__name__ + place


def main() -> None:
    """`python -m tandem.engine.server.worker FD`: the socket is inherited."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    logs.set_up()
    uvloop.run(_run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
