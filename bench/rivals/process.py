"""A rival, running: its script in its environment's Python, one JSON line there and one back for each call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...engine.errors import InputError
from ...engine.models.artifact import VARIANT_FILES, Artifact
from .catalog import RIVALS, Spec
from .environments import python_of
from .staging import stage

Floats = npt.NDArray[np.float32]
HERE = Path(__file__).parent
START_SECONDS = 180.0
"""A rival that has not loaded its models by then is left out; PyTorch from a cold disk takes half a minute."""
CALL_SECONDS = 600.0


class Unavailable(Exception):
    """A rival that cannot take part here; the message is the reason, and goes into the result."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What a rival answered (scores [n] or vectors [n, d], float32) and the milliseconds its library took for it."""

    values: Floats
    ms: float


class Rival:
    """One rival with both models loaded; close it, or use it in a `with` block."""

    def __init__(
        self, spec: Spec, encoder: Artifact, reranker: Artifact, *, threads: int, environments: Path | None = None
    ) -> None:
        """Start the process and wait until its models are loaded; raises Unavailable with the reason when it cannot."""
        self.spec = spec
        self.name = spec.name
        python = Path(sys.executable) if not spec.environment else python_of(spec.environment, environments)
        if not python.exists():
            raise Unavailable(f"no environment {spec.environment}; make it with `tandem bench rivals --install`")
        if missing := [a for a in (encoder, reranker) if spec.precision not in a.manifest.variants]:
            raise Unavailable(f"{missing[0].path} has no {spec.precision} variant")
        self._scratch = tempfile.TemporaryDirectory(prefix="tandem-rival-")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        scratch = Path(self._scratch.name)
        self._process = subprocess.Popen(
            [str(python), "-m", f"children.{spec.child}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, encoding="utf-8",
            cwd=scratch, env=_environment(threads, scratch),
        )  # fmt: skip
        try:
            ready = self._call(configuration(spec, encoder, reranker, scratch, threads), START_SECONDS)
        except Unavailable:
            self.close()
            raise
        self.versions: dict[str, str] = ready["versions"]

    def encode(self, texts: Sequence[str]) -> Timed:
        """Unit vectors float32 [n, d] of `texts`; raises Unavailable when the rival fails."""
        reply = self._call({"op": "encode", "texts": list(texts)})
        return Timed(np.array(reply["vectors"], dtype=np.float32), float(reply["ms"]))

    def rerank(self, query: str, texts: Sequence[str]) -> Timed:
        """Scores float32 [n], higher is better, in the texts' order; raises Unavailable when the rival fails."""
        reply = self._call({"op": "rerank", "query": query, "texts": list(texts)})
        return Timed(np.array(reply["scores"], dtype=np.float32), float(reply["ms"]))

    def rerank_together(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> float:
        """Milliseconds until all `queries`, asked at once, have their texts' scores; for the ability `together`."""
        reply = self._call({"op": "together", "queries": list(queries), "texts": [list(some) for some in texts]})
        return float(reply["ms"])

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()
        self._scratch.cleanup()

    def __enter__(self) -> Rival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, request: dict[str, Any], seconds: float = CALL_SECONDS) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        slow = threading.Timer(seconds, self._process.kill)
        slow.start()
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            slow.cancel()
        if not line:
            raise Unavailable(self._last_words(seconds))
        reply = json.loads(line)
        if "error" in reply:
            raise Unavailable(reply["error"])
        return cast(dict[str, Any], reply)

    def _last_words(self, seconds: float) -> str:
        if self._process.wait() == -signal.SIGKILL:
            return f"it gave no answer within {seconds:.0f} s"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"its process ended: {lines[-1] if lines else f'exit status {self._process.returncode}'}"


def configuration(spec: Spec, encoder: Artifact, reranker: Artifact, scratch: Path, threads: int) -> dict[str, Any]:
    """A child's first line: where its copies of the models are, their limits, what to run them with."""
    return {
        "encoder": str(stage(encoder, spec.precision, scratch / "encoder")),
        "reranker": str(stage(reranker, spec.precision, scratch / "reranker")),
        "encoder_tokens": encoder.manifest.max_length,
        "reranker_tokens": reranker.manifest.max_length,
        "encoder_pad_id": encoder.manifest.pad_id,
        "reranker_pad_id": reranker.manifest.pad_id,
        "pooling": encoder.manifest.pooling or "mean",
        "dimension": encoder.manifest.dimension,
        "graph": VARIANT_FILES[spec.precision],
        "backend": spec.backend,
        "threads": threads,
    }


@contextmanager
def running(
    names: Sequence[str],
    encoder: Artifact,
    reranker: Artifact,
    *,
    threads: int,
    environments: Path | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[list[Rival], dict[str, str]]]:
    """`start_all`, for the length of a block."""
    started, absent = start_all(names, encoder, reranker, threads=threads, environments=environments, tell=tell)
    try:
        yield started, absent
    finally:
        for rival in started:
            rival.close()


def start_all(
    names: Sequence[str],
    encoder: Artifact,
    reranker: Artifact,
    *,
    threads: int,
    environments: Path | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[list[Rival], dict[str, str]]:
    """The rivals of `names` that start here, and the reason of each that does not; raises InputError for no rival."""
    if unknown := [name for name in names if name not in RIVALS]:
        raise InputError(f"unknown rival {unknown[0]!r}; there are {', '.join(RIVALS)}")
    started: list[Rival] = []
    absent: dict[str, str] = {}
    for name in names:
        tell(f"starting {name}")
        try:
            started.append(Rival(RIVALS[name], encoder, reranker, threads=threads, environments=environments))
        except Unavailable as reason:
            absent[name] = str(reason)
    return started, absent


def _environment(threads: int, scratch: Path) -> dict[str, str]:
    """What a child needs of ours, its scripts, as many threads as everybody, and no way to a hub or a counter."""
    kept = {
        key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
    }
    return {
        **kept,
        "PYTHONPATH": str(HERE),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(scratch / "hub"),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }
