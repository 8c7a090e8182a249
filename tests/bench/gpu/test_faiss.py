"""FAISS on a GPU against numpy. In a file of its own: where its build does not suit the card, it ends the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.bench.gpu.checks import PLUGIN
from tandem.bench.gpu.settings import Settings
from tandem.engine.platform import cuda_driver

from .judging import Record, judge, missing, unit


@pytest.mark.gpu
def test_faiss_against_numpy(request: pytest.FixtureRequest, tmp_path: Path, record_property: Record):
    """Its flat index in half precision."""
    if (problem := cuda_driver.faiss_problem()) is not None:
        pytest.skip(problem)
    from tandem.engine.recall.gpu_faiss import GpuFaiss
    from tandem.engine.recall.gpu_planning import GpuPlan

    run = request.config.pluginmanager.get_plugin(PLUGIN)  # of `tandem bench gpu`, which has a seed
    settings = Settings() if run is None else run.task.settings
    random = np.random.default_rng(settings.seed)
    vectors, asked = unit(random, settings.faiss_rows, 384), unit(random, 7, 384)
    index = GpuFaiss.open(tmp_path, vectors, GpuPlan(kind="flat", reason="a check", nbytes=0), probes=0)
    wrong = missing(vectors, asked, index.search(asked, 100)[1])
    judge(record_property, wrong, 0.0, "share of rows that are wrong")
