"""The kernels themselves, on CPU tensors in Triton's interpreter: the tests beside this file, in their own process.

Triton decides when it is imported whether it interprets. Indexing and arithmetic are what this shows; races, alignment
and limits of shared memory only a GPU shows.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from .conftest import INTERPRETING

HERE = Path(__file__).parent


def runnable() -> str | None:
    """Why the interpreter cannot be used here, or None."""
    if INTERPRETING:
        return "in the interpreter already"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if tuple(map(int, metadata.version("triton").split(".")[:2])) < (3, 7):
        return "numpy 2.4 breaks the interpreter of Triton before 3.7 (triton#9171)"
    return None


@pytest.mark.skipif(runnable() is not None, reason=runnable() or "")
def test_kernels_in_the_interpreter() -> None:
    # All files in one process, which imports PyTorch and Triton once. Lanes outside the data compute rubbish that is
    # masked later; numpy, which interprets, warns of it.
    files = [HERE / f"test_{name}.py" for name in ("attention", "layout", "pack", "rope", "rows", "scan", "topk")]
    command = [sys.executable, "-m", "pytest", "-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, cwd=HERE.parent.parent
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert re.search(r"^[1-9]\d* passed", ran.stdout.splitlines()[-1]), ran.stdout[-6000:]
