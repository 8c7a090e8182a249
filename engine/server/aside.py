"""Work that may never end, as reading a file of a mount that hangs: beside the event loop, and beside its executor."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


async def aside(work: Callable[Given, Made], *arguments: Given.args, **named: Given.kwargs) -> Made:
    """`work(*arguments)` in a thread that the end of the process does not wait for; raises what it raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Made] = loop.create_future()

    def tell(set_it: Callable[..., None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(lambda: None if done.done() else set_it(value))

    def run() -> None:
        try:
            made = work(*arguments, **named)
        except BaseException as error:
            tell(done.set_exception, error)
        else:
            tell(done.set_result, made)

    threading.Thread(target=run, daemon=True, name=work.__name__).start()
    return await done
