"""Around each call: whose it is, how long it may take, that it may be ended, and errors by gRPC's codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from ...errors import TandemError
from ..auth import Keys, no_key
from ..deadline import aborted, late
from ..errors import Failure, Kind, failure_of
from ..in_flight import InFlight
from ..logs import where
from ..service import Service

log = logging.getLogger(__name__)
LONGEST_MESSAGE = 2000
Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply")
CODES: dict[Kind, grpc.StatusCode] = {
    "empty": grpc.StatusCode.INVALID_ARGUMENT,
    "validation": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthorized": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "method": grpc.StatusCode.UNIMPLEMENTED,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unsupported": grpc.StatusCode.INVALID_ARGUMENT,
    "body_timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "model": grpc.StatusCode.INTERNAL,
    "internal": grpc.StatusCode.INTERNAL,
}


class Context(Protocol):
    """What is used of grpc.aio.ServicerContext, which brings no types."""

    def time_remaining(self) -> float | None: ...

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Sequence[tuple[str, str]] | None: ...

    async def abort(self, code: Any, details: str, trailing_metadata: Sequence[tuple[str, str]] = ()) -> NoReturn: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """What a call brings besides its message: whose turn it takes, and until when it waits (the event loop's clock)."""

    client: str
    deadline: float

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()


class Guard:
    """Makes handlers of calls: who may ask is let in, what is late ended, errors told. Belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys = Keys(service.settings)

    def one(self, name: str, answer: Callable[[Request, Caller], Awaitable[Reply]]) -> Callable[..., Any]:
        """A handler of one message and one answer."""

        async def handle(request: Request, context: Context) -> Reply:
            return await self._within(name, context, partial(answer, request))

        return handle

    def each(self, name: str, answer: Callable[[Request, Caller], Awaitable[Reply]]) -> Callable[..., Any]:
        """A handler of a stream, in which each message has an answer, in their order, and `timeout_ms` of its own."""

        async def handle(requests: AsyncIterator[Request], context: Context) -> AsyncIterator[Reply]:
            await self._let_in(name, context)
            async for request in self._coming(name, requests, context):
                yield await self._within(name, context, partial(answer, request))

        return handle

    def whole(self, name: str, answer: Callable[[list[Request], Caller], Awaitable[Reply]]) -> Callable[..., Any]:
        """A handler of a stream that has one answer: of no more messages than a request may have documents, and no more
        bytes than a body may have. All of it has `timeout_ms`."""
        settings = self._service.settings

        async def handle(requests: AsyncIterator[Request], context: Context) -> Reply:
            await self._let_in(name, context)

            async def work(asked: Caller) -> Reply:
                read: list[Request] = []
                room = settings.max_body_bytes
                async for request in requests:
                    read.append(request)
                    self._service.check_count(len(read), settings.max_documents, "messages")
                    room -= request.ByteSize()
                    if room < 0:
                        raise Failure("too_large", f"the messages exceed {settings.max_body_bytes} bytes; send less")
                return await answer(read, asked)

            return await self._within(name, context, work)

        return handle

    async def _let_in(self, name: str, context: Context) -> None:
        """Before anything of a stream is read: end the call where its key is none of ours."""
        try:
            self._client(context)
        except Failure as failure:
            self._count(name, failure.status("tandem"), 0.0, failure.kind)
            await self._end(context, failure)

    async def _coming(self, name: str, requests: AsyncIterator[Request], context: Context) -> AsyncIterator[Request]:
        """The messages of a stream; one in which nothing comes for `timeout_ms` is ended."""
        seconds, messages = self._service.settings.timeout_ms / 1e3, aiter(requests)
        while True:
            try:
                async with asyncio.timeout(seconds):
                    request = await anext(messages)
            except StopAsyncIteration:
                return
            except TimeoutError:
                failure = Failure("body_timeout", f"no message came for {seconds:g} s")
                self._count(name, failure.status("tandem"), seconds, failure.kind)
                await self._end(context, failure)
            yield request

    async def _within(self, name: str, context: Context, work: Callable[[Caller], Awaitable[Reply]]) -> Reply:
        loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        try:
            reply = await self._served(context, work)
        except Failure as failure:
            self._count(name, failure.status("tandem"), loop.time() - begun, failure.kind)
            await self._end(context, failure)
        self._count(name, 200, loop.time() - begun)
        return reply

    async def _served(self, context: Context, work: Callable[[Caller], Awaitable[Reply]]) -> Reply:
        """Raises Failure, and CancelledError where the client has left."""
        seconds = self._seconds(context)
        loop, request = asyncio.get_running_loop(), InFlight()
        alarm = loop.call_later(seconds, request.end, "late")
        self._service.in_flight.add(request)
        try:
            return await work(Caller(self._client(context), loop.time() + seconds))
        except asyncio.CancelledError:
            if not request.settle():
                self._service.metrics.cancelled.inc()
                raise
        except (Failure, TandemError) as error:
            raise failure_of(error, self._service.paths) from None
        except Exception as error:  # whatever it is, it belongs to this call
            log.error("unexpected error", extra={"error": where(error)})
            raise Failure("internal", "the server could not answer; its log says why") from None
        finally:
            request.done.set_result(None)
            self._service.in_flight.discard(request)
            alarm.cancel()
        raise late(seconds) if request.ending == "late" else aborted()

    def _seconds(self, context: Context) -> float:
        limit, asked = self._service.settings.timeout_ms / 1e3, context.time_remaining()
        return limit if asked is None else min(asked, limit)

    def _client(self, context: Context) -> str:
        """Whose turn it takes: its key's, without keys its address's. Raises Failure `unauthorized`."""
        if not self._keys:
            return str(context.peer()).rpartition(":")[0]
        metadata = dict(context.invocation_metadata() or ())
        client = self._keys.client(str(metadata.get("authorization", "")).encode())
        if client is None:
            raise no_key()
        return client

    def _count(self, name: str, status: int, seconds: float, kind: Kind | None = None) -> None:
        self._service.metrics.answered(name, status, seconds, kind=kind)

    @staticmethod
    async def _end(context: Context, failure: Failure) -> NoReturn:
        """Answer with an error; never returns."""
        told = (("retry-after", str(failure.retry_after)),) if failure.retry_after is not None else ()
        # It goes as a header: one of 16 kB is an error of another kind.
        await context.abort(CODES[failure.kind], failure.message[:LONGEST_MESSAGE], trailing_metadata=told)
