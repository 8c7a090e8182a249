"""The one child-process runner of the benchmarks: what it tells, its silence, its end."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tandem.bench.child import Child, ChildEndedError, ChildSilentError

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
DEAF = "import time; time.sleep(600)"


@contextmanager
def running(program: str) -> Iterator[Child]:
    with tempfile.TemporaryFile() as errors, Child([sys.executable, "-c", program], errors) as child:
        yield child


def test_it_hears_what_it_was_told():
    with running(ECHO) as child:
        for message in ({"a": 1}, {"long": "x" * 1_000_000}):
            child.tell(message)
            assert child.hear(60) == message


def test_a_child_that_does_not_read_is_silent_and_holds_nobody_up():
    with running(DEAF) as child:
        child.tell({"long": "x" * 10_000_000})  # more than any pipe holds
        with pytest.raises(ChildSilentError, match="nothing was heard for 0 s"):
            child.hear(0.0)
        child.end()
        assert not child.running()


def test_its_end_has_its_last_words():
    with running("import sys; sys.exit('there is no card')") as child, pytest.raises(ChildEndedError) as ended:
        child.hear(60)
    assert "exit status 1" in str(ended.value)
    assert "there is no card" in str(ended.value)


STARTS = """
import subprocess, sys
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{"pid": %d}' % sleeper.pid, flush=True)
input()
"""


def test_what_it_started_ends_with_it():
    with running(STARTS) as child:
        status = Path("/proc") / str(child.hear(60)["pid"]) / "stat"
        assert status.exists()
    until = time.monotonic() + 60
    while status.exists() and status.read_text().split()[2] != "Z":  # until whoever inherits it has taken note
        assert time.monotonic() < until, "it still runs"
        time.sleep(0.01)
