"""Work that may never end stops neither the event loop nor the end of the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tandem.engine.server.aside import aside


def test_what_it_makes_and_raises_comes_back():
    async def work() -> None:
        assert await aside(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await aside(lambda: 1 // 0)

    asyncio.run(work())


HANGS = """
import asyncio, sys
from tandem.engine.server.aside import aside

async def main():
    try:
        async with asyncio.timeout(.2):
            await aside(lambda: open(sys.argv[1]).read())
    except TimeoutError:
        print("ended")

asyncio.run(main())
"""


def test_a_file_that_never_opens_holds_up_nothing(tmp_path: Path):
    os.mkfifo(path := tmp_path / "CURRENT")
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "ended\n"
