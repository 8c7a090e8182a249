"""A whole search through the Triton kernels, on CPU tensors in Triton's interpreter, against the references."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import metadata

import pytest

SEARCH = """
import numpy as np
from tandem.bench.random_models.shapes import TINY
from tandem.bench.random_models.workload import RandomWorkload
from tandem.kernels import dispatch

workload = RandomWorkload(TINY, passages=150, tokens=20)
pipeline, queries = workload.pipeline(), workload.queries(2)
expected = pipeline.search(queries, 6, 6)
dispatch.interpreting = True
for ours, theirs in zip(pipeline.search(queries, 6, 6), expected, strict=True):
    assert ours.rows.tolist() == theirs.rows.tolist()
    assert ours.places.tolist() == theirs.places.tolist()
    for name in ("scores", "cosines", "logits", "lexical"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5)
"""


def unusable() -> str | None:
    """Why the interpreter cannot be used here, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if tuple(map(int, metadata.version("triton").split(".")[:2])) < (3, 7):
        return "numpy 2.4 breaks the interpreter of Triton before 3.7 (triton#9171)"
    return None


@pytest.mark.skipif(unusable() is not None, reason=unusable() or "")
def test_a_search_through_the_kernels_is_that_through_the_references():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", SEARCH]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
