from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import Collection
from tandem.engine.config import EngineSettings
from tandem.engine.errors import DeviceError, InputError, OutOfMemory
from tandem.engine.models.artifact import Artifact, ModelSize, Precision
from tandem.engine.models.memory import Chosen, slot_bytes
from tandem.engine.models.runtime import Choice
from tandem.engine.models.runtime.onnx_cuda import OnnxCudaRuntime
from tandem.engine.models.runtime.select import arena_limit
from tandem.engine.platform import cuda_driver
from tandem.engine.platform.device import Device
from tandem.engine.search.gpu_memory import GIB, available_memory, plan, scan_scratch
from tandem.engine.search.model_pool import ANY_MODEL, ModelPool
from tandem.engine.search.placement import plan_memory
from tandem.kernels import scan


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path):
    folder = tmp_path_factory.mktemp("memory") / "c"
    index_corpus("python:json", folder, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    models = (Chosen.expected(Artifact.open(path)) for path in (packable_bi_encoder, packable_cross_encoder))
    return Collection.open(folder), *models


def test_vectors_tokens_and_weights_are_counted_to_the_byte(parts):
    collection, _, reranker = parts
    items = {item.what: item.nbytes for item in plan(*parts, available=None).items}
    assert items["vectors (scan)"] == 2 * collection.index.vectors.size
    files = collection.manifest.segments[0].files
    stored = sum(files[name].size for name in ("tokens.npy", "tokens.offsets.npy"))
    assert 0 <= stored - items["the token store"] <= 256  # the two headers
    assert items["the reranker's weights"] == reranker.artifact.manifest.files["model.safetensors"].size // 2
    assert "the encoder's activations (packed)" in items


def test_onnx_runtime_is_counted_with_its_own_graph_its_arena_and_its_buffers(parts):
    """The runtime itself is opened, on the CPU, and its buffers are weighed; whole weights, not halved ones."""
    precision: Precision = "fp16"
    for what, model in (("encoder", parts[1]), ("reranker", parts[2])):
        artifact = model.artifact
        onnx = Chosen(artifact, Choice("onnx", precision, "a test"))
        items = {item.what: item.nbytes for item in plan(parts[0], onnx, onnx, available=None).items}
        graph = artifact.manifest.files[artifact.manifest.variants[precision].file].size
        assert items[f"the {what}'s weights"] == graph
        runtime = OnnxCudaRuntime(
            artifact.graph(precision), pad_id=artifact.manifest.pad_id, dimension=artifact.manifest.dimension,
            max_length=artifact.manifest.max_length, device=Device("cpu", "a test", 1),
        )  # fmt: skip
        slots = [runtime._slot(bucket) for bucket in runtime.buckets.largest_first()]
        bound = sum(
            slot._output.tensor_size_in_bytes() + sum(v.numpy().nbytes for v in slot._values.values()) for slot in slots
        )
        assert slot_bytes(artifact) == bound
        rest = arena_limit(graph, artifact.manifest.size, artifact.manifest.max_length) - graph + bound
        assert items[f"the {what}'s activations (onnx)"] == rest


def test_the_arena_has_room_for_the_scores_of_the_longest_sequence():
    size = ModelSize(layers=6, heads=12, width=384, wide=1536)
    short, long = (arena_limit(10**8, size, longest) for longest in (512, 8192))
    assert long - short == 4 * 16_384 * (8192 - 512) * 12
    assert long > 4 * 12 * 8192**2 * 2  # two sequences of a batch of 16,384 tokens


def test_what_will_run_a_model_decides_what_is_counted(parts, monkeypatch: pytest.MonkeyPatch):
    """A precision that only ONNX Runtime has, and a missing PyTorch, as the engine decides them on a card."""
    collection, encoder, reranker = parts[0], parts[1].artifact, parts[2].artifact
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Gpu("a card", 80 * GIB, (9, 0)))
    monkeypatch.setattr(cuda_driver, "faiss_problem", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    cuda = Device("cuda", "a test", 1)
    for problem, precision, expected in (
        (None, "auto", ("packed", "packed")),
        (None, "fp16", ("packed", "packed")),
        ("triton is not installed", "auto", ("onnx", "onnx")),
    ):
        monkeypatch.setattr(cuda_driver, "torch_problem", lambda problem=problem: problem)
        monkeypatch.setattr(cuda_driver, "free_memory", lambda: None)
        settings = EngineSettings(reranker_precision=precision)
        planned = plan_memory(collection, encoder, reranker, cuda, settings)
        names = {item.what for item in planned.items}
        for what, name in zip(("encoder", "reranker"), expected, strict=True):
            assert f"the {what}'s activations ({name})" in names
    with pytest.raises(InputError, match="packed runtime cannot run"):
        plan_memory(collection, encoder, reranker, cuda, EngineSettings(runtime="packed", reranker_precision="fp32"))


@pytest.mark.parametrize("rows", [1, 1000, 1_000_000, 10_000_000])
def test_the_scans_workspace_is_counted_to_the_byte(rows: int):
    made = scan.workspace(rows, scan.MAX_QUERIES, scan.MAX_K, "meta")
    assert scan_scratch(rows) == sum(getattr(made, name).nbytes for name in ("best", "one", "other", "scored"))


def test_without_a_reranker_there_is_no_token_store(parts):
    collection, encoder, _ = parts
    assert not any("token" in item.what for item in plan(collection, encoder, None, available=None).items)


def test_ids_that_are_not_the_rerankers_do_not_lie_on_the_device(parts):
    items = [item.what for item in plan(*parts, available=None, stored=False).items]
    assert "the token store" not in items
    assert "the reranker's weights" in items


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


def large(collection: Collection) -> Any:
    """`collection`, as if it had 50 million passages of 384 dimensions: 38 GB of half-precision vectors."""

    class Large:
        manifest = collection.manifest.model_copy(update={"dimension": 384})
        token_parts = staticmethod(collection.token_parts)
        segments, live, rows = collection.segments, None, 50_000_000

    return Large()


def test_a_version_beside_another_takes_the_form_it_would_have_alone_and_is_refused_naming_the_cause(parts):
    collection, encoder, reranker = large(parts[0]), *parts[1:]
    alone = plan(collection, encoder, reranker, available=75 * GIB, capacity=76 * GIB)
    assert alone.problem is None
    beside = plan(collection, encoder, reranker, available=30 * GIB, capacity=76 * GIB)
    assert beside.recall == alone.recall
    assert beside.recall.kind == "ivf-flat"
    with pytest.raises(
        DeviceError, match=r"30\.00 GiB are there: 46\.00 GiB of the card are taken by others, perhaps by"
    ) as e:
        beside.check()
    assert "restart, or set gpu_memory_gib to at most half the card" in str(e.value)
    assert beside.to_dict()["fits"] is False
    # With no more than the half to plan with, both versions take the smaller form.
    assert plan(collection, encoder, reranker, available=30 * GIB).recall.kind == "ivf-pq"


def test_what_the_whole_card_does_not_hold_is_not_blamed_on_others(parts):
    problem = plan(*parts, available=GIB // 2, capacity=GIB).problem
    assert "taken by others" not in problem
    assert "use a " in problem


def test_the_memory_given_is_what_is_planned_with(monkeypatch: pytest.MonkeyPatch):
    cuda = Device("cuda", "a test", 1)
    assert available_memory(cuda, 2.5) == (int(2.5 * GIB), int(2.5 * GIB))
    assert available_memory(Device("cpu", "a test", 1), None) == (None, None)
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Gpu("a card", 80 * GIB, (9, 0)))
    for free, expected in ((None, 76 * GIB), (79 * GIB, 76 * GIB), (30 * GIB, 30 * GIB)):
        monkeypatch.setattr(cuda_driver, "free_memory", lambda free=free: free)
        assert available_memory(cuda, None) == (expected, 76 * GIB)


def test_a_model_that_is_shared_counts_as_long_as_somebody_has_it(parts, tiny_bi_encoder: Path):
    collection, encoder, reranker = parts
    planned = plan(collection, encoder, reranker, available=None)
    assert planned.own + sum(planned.shared.values()) == planned.total
    fingerprint = encoder.artifact.fingerprint
    assert set(planned.shared) == {fingerprint, reranker.artifact.fingerprint, ANY_MODEL}
    pool = ModelPool(EngineSettings(device="cpu", warm_up=False))
    pool.hold()
    pool.planned(planned.shared)
    pool.hold(planned.own)
    assert pool.taken == planned.own, "a model that is not loaded takes nothing"
    first = pool.encoder(Artifact.open(tiny_bi_encoder), pool.settings)
    pool.planned({first.artifact.fingerprint: 1000, ANY_MODEL: 100})
    second = pool.encoder(Artifact.open(tiny_bi_encoder), pool.settings)
    pool.release(planned.own)
    assert pool.taken == 1100, "the one that planned it is gone, and it is still there"
    del first, second
    gc.collect()
    assert pool.taken == 0
    pool.release()
