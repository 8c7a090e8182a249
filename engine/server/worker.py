"""The worker process: engines behind a socket. Started by `worker_client`; ends when its parent is gone.

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

import uvloop
from pydantic import TypeAdapter

from ..errors import TandemError
from . import codec, logs
from .engines import Engines, Wanted
from .logs import where
from .model_info import Facts

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.2
_WANTED = TypeAdapter(list[Wanted])


class _Worker:
    def __init__(self, writer: asyncio.StreamWriter, engines: Engines) -> None:
        self._writer = writer
        self._engines = engines
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._batches: list[tuple[int, int]] = []
        engines.pool.batcher.on_batch = self._batch

    def _batch(self, sequences: int, tokens: int) -> None:
        self._batches.append((sequences, tokens))

    async def serve(self, calls: asyncio.Queue[codec.Document]) -> None:
        """Begin each call, or end one that nobody waits for any more."""
        while True:
            document = await calls.get()
            if "cancel" in document:
                if (task := self._tasks.pop(document["cancel"], None)) is not None:
                    task.cancel()
            else:
                number: int = document["id"]
                self._tasks[number] = asyncio.create_task(self._answer(number, document))

    async def _answer(self, number: int, document: codec.Document) -> None:
        try:
            call = codec.call_of(document)
            data = codec.answer_frame(number, call, await call.run_of(self._engines, document["collection"]))
        except Exception as error:  # whatever it is, it belongs to this call, and its caller must hear of it
            if not isinstance(error, TandemError):
                log.error("unexpected error", extra={"error": where(error)})
            data = codec.error_frame(number, error)
        finally:
            self._tasks.pop(number, None)
        self._writer.write(data)

    async def beat(self) -> None:
        """Say what waits, how long the micro-batch that runs is overdue, and what was learnt of the costs."""
        engines, batcher = self._engines, self._engines.pool.batcher
        while True:
            if batcher.broken is not None:
                # What a broken device answers may be wrong, and only another process gets a sound one.
                log.error("the device is broken: this worker ends", extra={"error": str(batcher.broken)})
                os._exit(1)
            if not self._writer.transport.get_write_buffer_size():  # one that does not read is not told more and more
                batches, self._batches = self._batches, []
                self._writer.write(codec.frame({
                    "beat": {
                        "jobs": batcher.waiting_jobs,
                        "tokens": batcher.waiting_tokens,
                        "overdue": batcher.overdue,
                        "batches": batches,
                        "drift": engines.drift(),
                    }
                }))  # fmt: skip
            await asyncio.sleep(BEAT_SECONDS)


async def _run(bound: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=bound)
    order = await codec.read_frame(reader)
    if order is None:
        return
    opening = asyncio.ensure_future(asyncio.to_thread(_open, order[0]))
    # From now on the parent's going ends this process, whatever it does: nothing is left to save, and a thread may be
    # deep in a library that never returns.
    calls: asyncio.Queue[codec.Document] = asyncio.Queue()
    listening = asyncio.create_task(_listen(reader, calls))
    try:
        engines, facts = await opening
    except Exception as error:
        if not isinstance(error, TandemError):
            log.error("the engines cannot be opened", extra={"error": where(error)})
        writer.write(codec.error_frame(0, error))
        await listening
        return
    worker = _Worker(writer, engines)
    writer.write(codec.frame({"id": 0, "answer": facts}))
    await asyncio.gather(worker.beat(), worker.serve(calls))


async def _listen(reader: asyncio.StreamReader, calls: asyncio.Queue[codec.Document]) -> None:
    while (found := await codec.read_frame(reader)) is not None:
        calls.put_nowait(found[0])
    os._exit(0)


def _open(order: codec.Document) -> tuple[Engines, dict[str, Facts]]:
    engines = Engines(order["settings"])
    return engines, engines.open_all(_WANTED.validate_python(order["collections"]))


def main() -> None:
    """`python -m tandem.engine.server.worker FD`: the socket is inherited."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    logs.set_up()
    uvloop.run(_run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
