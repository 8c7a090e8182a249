"""JSON lines over stdin and stdout: a configuration, then requests; what is timed is the library's call alone.

Every child of a benchmark speaks so (see `bench/child.py`); this module needs nothing but Python.

in:  a configuration: `process.configuration` makes it
out: {"ready": true, "versions": {...}} or {"error": reason}
in:  {"op": "encode", "texts": [...]}            out: {"ms": x, "vectors": [[...]]}
in:  {"op": "rerank", "query": q, "texts": [...]} out: {"ms": x, "scores": [...]}, higher is better
in:  {"op": "together", "queries": [...], "texts": [[...]]}  out: {"ms": x, "scores": [[...]]}, of all queries at once
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Protocol, TextIO, cast

Config = dict[str, Any]


class Adapter(Protocol):
    """One library with both models loaded. `packages` are named with their versions in the result."""

    @property
    def packages(self) -> Sequence[str]: ...

    def encode(self, texts: Sequence[str]) -> Any:
        """Unit vectors [n, d], of any type numpy understands."""

    def rerank(self, query: str, texts: Sequence[str]) -> Any:
        """Scores [n], in the order of `texts`."""


class Together(Adapter, Protocol):
    """A library that puts the pairs of several requests into one batch."""

    def rerank_together(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Any:
        """Scores of every query's texts, asked at once."""


def serve(make: Callable[[Config], Adapter]) -> None:
    """Load with the first line's configuration, then answer request after request until stdin ends."""
    told = answers()
    config = json.loads(sys.stdin.readline())
    try:
        adapter = make(config)
    except Exception as error:  # the reason goes into the result: a rival that cannot load is listed with it
        answer(told, {"error": f"{type(error).__name__}: {error}"})
        return
    versions = {name: metadata.version(name) for name in adapter.packages}
    answer(told, {"ready": True, "versions": versions})
    for line in sys.stdin:
        answer(told, _asked(adapter, json.loads(line)))


def _asked(adapter: Adapter, request: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        if request["op"] == "encode":
            name, values = "vectors", adapter.encode(request["texts"])
        elif request["op"] == "together":
            together = cast(Together, adapter)
            name, values = "scores", together.rerank_together(request["queries"], request["texts"])
        else:
            name, values = "scores", adapter.rerank(request["query"], request["texts"])
    except Exception as error:  # likewise
        return {"error": f"{type(error).__name__}: {error}"}
    ms = (time.perf_counter() - start) * 1e3
    return {"ms": ms, name: values}


def pooled(hidden: Any, mask: Any, pooling: str) -> Any:
    """Unit vectors [n, d] of hidden states [n, width, d] and a mask [n, width], arrays of numpy or tensors of PyTorch:
    of each text's first token for the pooling `cls`, the mean of its tokens otherwise."""
    vectors = hidden[:, 0] if pooling == "cls" else (hidden * mask[:, :, None]).sum(1)
    return vectors / (vectors**2).sum(1)[:, None] ** 0.5  # a mean's divisor does not change its direction


def answers() -> TextIO:
    """Where answers go. What a library prints must not look like one: from here on stdout is stderr."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return told


def answer(told: TextIO, message: dict[str, Any]) -> None:
    """One line for the parent."""
    told.write(json.dumps(message, default=_plain) + "\n")
    told.flush()


def _plain(value: Any) -> Any:
    """Arrays, tensors and their numbers as Python's; of anything else its words."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
