"""The worker process: an engine behind a socket. Started by `worker_client`; ends when its parent is gone.

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
from . import codec, logs
from .logs import where
from .model_info import facts_of

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.2


class _Worker:
    def __init__(self, frames: codec.Frames, engine: Engine) -> None:
        self._frames = frames
        self._engine = engine
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._batches: list[tuple[int, int]] = []
        engine.batcher.on_batch = self._batch

    def _batch(self, sequences: int, tokens: int) -> None:
        self._batches.append((sequences, tokens))

    def take(self, document: codec.Document, _: bytes) -> None:
        """Begin a call, or end one that nobody waits for any more."""
        if "cancel" in document:
            if (task := self._tasks.pop(document["cancel"], None)) is not None:
                task.cancel()
        else:
            number: int = document["id"]
            self._tasks[number] = asyncio.create_task(self._answer(number, document))

    async def _answer(self, number: int, document: codec.Document) -> None:
        try:
            data = codec.answer_frame(number, await codec.call_of(document).run(self._engine))
        except Exception as error:  # whatever it is, it belongs to this call, and its caller must hear of it
            if not isinstance(error, TandemError):
                log.error("unexpected error", extra={"error": where(error)})
            data = codec.error_frame(number, error)
        finally:
            self._tasks.pop(number, None)
        self._frames.write(data)

    async def beat(self) -> None:
        """Say what waits, how long the micro-batch that runs has been running, and what was learnt of the costs."""
        engine, batcher = self._engine, self._engine.batcher
        while True:
            if batcher.broken is not None:
                # What a broken device answers may be wrong, and only another process gets a sound one.
                log.error("the device is broken: this worker ends", extra={"error": str(batcher.broken)})
                os._exit(1)
            if not self._frames.unsent:  # a parent that does not read is not told more and more
                batches, self._batches = self._batches, []
                busy = batcher.busy_since
                self._frames.write(codec.frame({
                    "beat": {
                        "jobs": batcher.waiting_jobs,
                        "tokens": batcher.waiting_tokens,
                        "busy": 0.0 if busy is None else time.monotonic() - busy,
                        "batches": batches,
                        "drift": [model.cost.drift for model in engine.models],
                    }
                }))  # fmt: skip
            await asyncio.sleep(BEAT_SECONDS)


async def _run(bound: socket.socket) -> None:
    order: asyncio.Future[codec.Document] = asyncio.get_running_loop().create_future()
    # When the parent is gone nothing is left to save; the device thread may be deep in a library that never returns.
    frames = codec.Frames(lambda document, _: order.set_result(document), lambda: os._exit(0))
    await asyncio.get_running_loop().create_unix_connection(lambda: frames, sock=bound)
    try:
        engine = await asyncio.to_thread(_open, await order)
    except Exception as error:
        if not isinstance(error, TandemError):
            log.error("the engine cannot be opened", extra={"error": where(error)})
        frames.write(codec.error_frame(0, error))
    else:
        worker = _Worker(frames, engine)
        frames.on_frame = worker.take
        frames.write(codec.frame({"id": 0, "answer": facts_of(engine)}))
        await worker.beat()
    await asyncio.get_running_loop().create_future()  # the parent closes the socket, which ends this process


def _open(order: codec.Document) -> Engine:
    version = None if order["version"] is None else Pointer(*order["version"])
    settings: dict[str, Any] = order["settings"]
    return Engine.open(order["collection"], version=version, **settings)


def main() -> None:
    """`python -m tandem.engine.server.worker FD`: the socket is inherited."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    logs.set_up()
    uvloop.run(_run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
