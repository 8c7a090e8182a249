"""A rival, running: its script in its environment's Python, one JSON line there and one back for each call."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...engine.errors import InputError
from ...engine.models.artifact import VARIANT_FILES, Artifact
from ..child import OFFLINE, Child, ChildEndedError, ChildSilentError, Message
from ..turns import Unavailable
from .catalog import RIVALS, Spec
from .environments import python_of
from .staging import stage

Floats = npt.NDArray[np.float32]
HERE = Path(__file__).parent
START_SECONDS = 180.0
"""A rival that has not loaded its models by then is left out; PyTorch from a cold disk takes half a minute."""
CALL_SECONDS = 600.0


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
            raise Unavailable(f"{missing[0].manifest.name} has no {spec.precision} variant")
        with ExitStack() as undo:
            scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="tandem-rival-")))
            errors = undo.enter_context(tempfile.TemporaryFile())
            command = [str(python), "-m", f"children.{spec.child}"]
            self._child = undo.enter_context(Child(command, errors, env=_environment(threads, scratch), cwd=scratch))
            ready = self._call(configuration(spec, encoder, reranker, scratch, threads), START_SECONDS)
            self._undo = undo.pop_all()
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
        self._undo.close()

    def __enter__(self) -> Rival:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: Message, seconds: float = CALL_SECONDS) -> Message:
        self._child.tell(request)
        try:
            reply = self._child.hear(seconds)
        except (ChildSilentError, ChildEndedError) as reason:
            raise Unavailable(str(reason)) from reason
        if "error" in reply:
            raise Unavailable(reply["error"])
        return reply


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


def check_known(names: Sequence[str]) -> None:
    """Raises InputError for a name that is no rival's."""
    if unknown := [name for name in names if name not in RIVALS]:
        raise InputError(f"unknown rival {unknown[0]!r}; there are {', '.join(RIVALS)}")


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
    """For the length of a block, the rivals of `names` that start here, and the reason of each that does not.

    Raises what `check_known` raises.
    """
    check_known(names)
    started: list[Rival] = []
    absent: dict[str, str] = {}
    with ExitStack() as block:
        for name in names:
            tell(f"starting {name}")
            try:
                rival = Rival(RIVALS[name], encoder, reranker, threads=threads, environments=environments)
                started.append(block.enter_context(rival))
            except Unavailable as reason:
                absent[name] = str(reason)
        yield started, absent


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
        **OFFLINE,
        "HF_HOME": str(scratch / "hub"),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }
