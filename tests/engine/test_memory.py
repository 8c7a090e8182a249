from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.artifact import Artifact
from tandem.engine.collection import Collection
from tandem.engine.device import Device
from tandem.engine.errors import DeviceError, OutOfMemory
from tandem.engine.indexing import index_corpus
from tandem.engine.memory import GIB, available_memory, plan, scan_scratch
from tandem.kernels import scan


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path):
    folder = tmp_path_factory.mktemp("memory") / "c"
    index_corpus("python:json", folder, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    return Collection.open(folder), Artifact.open(packable_bi_encoder), Artifact.open(packable_cross_encoder)


def test_vectors_tokens_and_weights_are_counted_to_the_byte(parts):
    collection, _, reranker = parts
    items = {item.what: item.nbytes for item in plan(*parts, available=None).items}
    assert items["vectors (scan)"] == 2 * collection.index.vectors.size
    files = collection.manifest.files
    stored = sum(files[name].size for name in ("tokens.npy", "tokens.offsets.npy"))
    assert 0 <= stored - items["the token store"] <= 256  # the two headers
    assert items["the reranker's weights"] == reranker.manifest.files["model.safetensors"].size // 2
    assert "the encoder's activations (packed)" in items


@pytest.mark.parametrize("rows", [1, 1000, 1_000_000, 10_000_000])
def test_the_scans_workspace_is_counted_to_the_byte(rows: int):
    made = scan.workspace(rows, scan.MAX_QUERIES, scan.MAX_K, "meta")
    assert scan_scratch(rows) == sum(getattr(made, name).nbytes for name in ("best", "one", "other", "scored"))


def test_without_a_reranker_there_is_no_token_store(parts):
    collection, encoder, _ = parts
    assert not any("token" in item.what for item in plan(collection, encoder, None, available=None).items)


def test_what_does_not_fit_is_refused_naming_what_to_shrink(parts):
    assert plan(*parts, available=80 * GIB).problem is None
    small = plan(*parts, available=GIB)
    with pytest.raises(DeviceError, match=r"needs .* GiB .* 1\.00 GiB are there.*largest part is .*: use a "):
        small.check()
    assert small.to_dict()["fits"] is False


def test_memory_that_runs_out_in_spite_of_the_plan_names_what_to_shrink_too(parts):
    planned = plan(*parts, available=80 * GIB)
    with (
        pytest.raises(OutOfMemory, match=r"for the weights: none left; the largest part is .*: use a "),
        planned.advising(),
    ):
        raise OutOfMemory("the device's memory does not suffice for the weights: none left")


def test_nothing_is_refused_where_nothing_is_known(parts):
    unknown = plan(*parts, available=None)
    unknown.check()
    assert unknown.to_dict()["fits"] is None


def test_the_memory_given_is_what_is_planned_with():
    assert available_memory(Device("cuda", "a test", 1), 2.5) == int(2.5 * GIB)
    assert available_memory(Device("cpu", "a test", 1), None) is None
