"""Corpora every machine has: the documentation strings of Python packages, read in a process of their own.

Importing a few hundred modules has effects (hooks, warnings, open handles) that must not reach the caller's process.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from ..errors import CorpusError
from .document import Document, Record, Source

PREFIX = "python:"
TIMEOUT = 600.0
"""Seconds for importing everything that was named; the standard library and numpy take 3."""


def source(name: str) -> Source:
    """`python:NAME[,NAME…]` as a source of records; raises CorpusError when a package cannot be imported."""
    packages = [package.strip() for package in name.removeprefix(PREFIX).split(",")]
    if not all(packages):
        raise CorpusError(f"{name!r} names no package; write for instance python:stdlib or python:stdlib,numpy")
    lines = _documentation(packages)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Source(name, digest, len(lines), lambda: _records(lines))


def _records(lines: list[str]) -> Iterator[Record]:
    for line in lines:
        row = json.loads(line)
        metadata = {"kind": row["kind"], "module": row["module"]}
        yield Record(row["name"], Document(row["name"], row["name"], row["text"], metadata))


def _documentation(packages: list[str]) -> list[str]:
    """One JSON line a documented thing."""
    command = [sys.executable, "-W", "ignore", "-m", "tandem.engine.collection.docstrings"]
    request = json.dumps({"packages": packages, "path": sys.path})
    try:
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, check=False, timeout=TIMEOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CorpusError(f"{', '.join(packages)}: importing took over {TIMEOUT:.0f} s; name fewer packages") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise CorpusError(f"cannot read the documentation of {', '.join(packages)}: {reason[0]}; is it installed?")
    # Not splitlines: documentation may hold other line separators, which JSON does not escape.
    return done.stdout.decode().rstrip("\n").split("\n") if done.stdout.strip() else []
