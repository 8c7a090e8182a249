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
from dataclasses import replace
from tandem.bench.gpu import data
from tandem.bench.gpu.searches import random_pipeline
from tandem.bench.gpu.settings import TINY, dry_run
from tandem.kernels import dispatch

settings = replace(dry_run(), base_passages=150)
pipeline, _ = random_pipeline(TINY, 150, 20, settings)
queries = data.queries(2, TINY, settings, np.random.default_rng(0))
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
