"""The CUDA form of the ONNX runtime, on a CPU uncaptured: shapes, buffers and binding are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine.errors import ArtifactError, DeviceError, OutOfMemory
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.models.runtime import onnx_cuda
from tandem.engine.models.runtime.activations import Activations
from tandem.engine.models.runtime.onnx import OnnxRuntime
from tandem.engine.models.runtime.onnx_cuda import CudaOptions, OnnxCudaRuntime
from tandem.engine.platform.device import Device
from tandem.engine.platform.device_wide import capturing
from tandem.engine.text.tokens import TokenBatch
from tandem.export import export_model
from tandem.export.parity.samples import docstrings

from ....tiny import tiny_model

CPU = Device("cpu", "a test", 1)
TEXTS = ["a", "the list is sorted in place", "returns a new string " * 12, "file", "open the file and read it " * 5] * 5


@pytest.fixture(scope="module", params=["bi-encoder", "cross-encoder"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BiEncoder | CrossEncoder:
    """A tiny model with the graph of a GPU too, opened on the CPU: the oracle."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    source = tiny_model(folder / "source", "bert", kind)
    artifact = export_model(
        str(source), kind, folder / "artifact", precisions=("fp32", "fp16"), texts=docstrings()[:40]
    )
    return (BiEncoder if kind == "bi-encoder" else CrossEncoder)(artifact, CPU, "fp32")


def runtime(artifact: Artifact) -> OnnxCudaRuntime:
    manifest = artifact.manifest
    return OnnxCudaRuntime(
        artifact.graph("fp16"), pad_id=manifest.pad_id, dimension=manifest.dimension, max_length=manifest.max_length,
        device=CPU,
    )  # fmt: skip


def sequences(model: BiEncoder | CrossEncoder) -> TokenBatch:
    """Of very different lengths."""
    texts = model.tokenizer.encode_many(TEXTS)
    if isinstance(model, CrossEncoder):
        return model.tokenizer.pairs(model.tokenizer.encode("sort"), texts)
    return model.tokenizer.single(texts)


def test_rows_are_those_of_the_cpu_runtime(model: BiEncoder | CrossEncoder):
    """In half precision, and padded among neighbours: what is alone gets the same."""
    ours, batch = runtime(model.artifact), sequences(model)
    expected = model.runtime.run(batch)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(ours.run(batch), expected, atol=2e-2 * scale)
    rows = ours.run(batch)  # buffers that hold another batch's rest
    np.testing.assert_allclose(rows, expected, atol=2e-2 * scale)
    alone = np.concatenate([ours.run(batch.select([row])) for row in range(5)])
    np.testing.assert_allclose(rows[:5], alone, atol=5e-3 * scale)
    assert rows.shape == expected.shape


def test_the_graph_of_a_cpu_is_refused(model: BiEncoder | CrossEncoder):
    manifest = model.artifact.manifest
    with pytest.raises(DeviceError, match="one sequence a run"):
        OnnxCudaRuntime(model.artifact.graph("fp32"), pad_id=0, dimension=manifest.dimension, max_length=64, device=CPU)
    with pytest.raises(ArtifactError, match="the graph of a GPU"):
        OnnxRuntime(
            model.artifact.graph("fp16"), device=CPU, split="sequences", activations=Activations(token=1, square=0)
        )


def test_warming_up_runs_every_shape(model: BiEncoder | CrossEncoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tandem.engine.models.runtime.onnx_cuda.TOKENS", 256)
    ours = runtime(model.artifact)
    ours.warm_up()
    assert set(ours._slots) == set(ours.buckets.largest_first())


def test_places_without_a_sequence_are_never_nan(model: BiEncoder | CrossEncoder):
    ours = runtime(model.artifact)
    batch = TokenBatch(np.array([2, 5, 3], dtype=np.int32), np.array([0, 3]))
    slot = ours._slot(next(bucket for bucket in ours.buckets.largest_first() if bucket.batch == 4))
    slot.fill(batch, 0)
    assert np.isfinite(slot.run(ours._session, 4)).all()


def test_the_options_bound_the_arena():
    options = CudaOptions(memory=2**30).provider()
    assert options["gpu_mem_limit"] == str(2**30)
    assert (options["arena_extend_strategy"], options["enable_cuda_graph"]) == ("kSameAsRequested", "1")
    assert "gpu_mem_limit" not in CudaOptions().provider()
    assert CudaOptions(graphs=False).provider()["enable_cuda_graph"] == "0"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_is_missing_is_never_answered_by_the_cpu(tiny_cross_encoder: Path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has its CUDA provider")
    artifact = Artifact.open(tiny_cross_encoder)
    with pytest.raises(DeviceError, match="CUDA"):
        OnnxCudaRuntime(
            artifact.graph("fp32"), pad_id=0, dimension=None, max_length=128, device=Device("cuda", "a test", 1)
        )


@pytest.mark.parametrize(
    ("said", "tried"), [("nodes on the CPU EP, but fallback to CPU EP has been explicitly disabled by the user", 2),
                        ("CUDA failure 2: out of memory", 1), ("no kernel for this card", 1)],
)  # fmt: skip
def test_nodes_go_to_the_cpu_only_where_onnx_runtime_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, tried: int
):
    asked: list[Any] = []

    def refuse(graph: Path, settings: Any, providers: list[Any], **_: Any) -> Any:
        asked.append(providers)
        raise RuntimeError(said)

    monkeypatch.setattr(onnx_cuda.onnxruntime, "InferenceSession", refuse)
    with pytest.raises(OutOfMemory if "memory" in said else DeviceError):
        onnx_cuda._session(tmp_path / "graph.onnx", Device("cuda", "a test", 1), onnx_cuda.CudaOptions())
    assert len(asked) == tried


@pytest.mark.parametrize("captured", [False, True])
def test_no_other_capture_begins_while_a_shape_may_capture(
    model: BiEncoder | CrossEncoder, monkeypatch: pytest.MonkeyPatch, captured: bool
):
    ours = runtime(model.artifact)
    ours.captured = captured
    run, held = onnx_cuda._Slot.run, list[tuple[bool, bool]]()

    def watched(slot: Any, session: Any, count: int) -> Any:
        held.append((capturing.locked(), onnx_cuda._running.locked()))
        return run(slot, session, count)

    monkeypatch.setattr(onnx_cuda._Slot, "run", watched)
    batch = sequences(model).select([0])
    for _ in range(5):
        ours.run(batch)
    assert held == [(captured and number < 3, True) for number in range(5)]
    assert not capturing.locked()
    assert not onnx_cuda._running.locked()


def test_a_run_waits_for_its_own_stream_alone(model: BiEncoder | CrossEncoder, monkeypatch: pytest.MonkeyPatch):
    """`synchronize_outputs` waits for the whole device, and fails with error 900 while another thread captures."""

    def everything(self: Any) -> None:
        raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    ours = runtime(model.artifact)
    monkeypatch.setattr(onnx_cuda.onnxruntime.IOBinding, "synchronize_outputs", everything)
    batch = TokenBatch(np.array([2, 5, 3], dtype=np.int32), np.array([0, 3]))
    assert np.isfinite(ours.run(batch)).all()


def test_a_session_opens_while_nothing_is_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The CUDA provider's constructor waits for the whole device too."""
    held: list[bool] = []
    monkeypatch.setattr(onnx_cuda, "_open", lambda *_, **__: held.append(capturing.locked()))
    onnx_cuda._session(tmp_path / "graph.onnx", Device("cuda", "a test", 1), CudaOptions())
    assert held == [True]
    assert not capturing.locked()


@pytest.mark.parametrize("fallback", [False, True])
def test_onnx_runtime_does_not_retry_on_the_cpu_by_itself(
    tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fallback: bool
):
    """Its Python class would: then out of memory is no longer said, and a benchmark's stdout is no longer JSON."""
    create = onnx_cuda.onnxruntime.InferenceSession._create_inference_session

    def without_memory(self: Any, providers: list[Any], *others: Any) -> None:
        if any("CUDAExecutionProvider" in provider for provider in providers):
            raise RuntimeError("CUDA failure 2: out of memory")
        create(self, providers, *others)

    monkeypatch.setattr(onnx_cuda.onnxruntime.InferenceSession, "_create_inference_session", without_memory)
    providers = [("CUDAExecutionProvider", CudaOptions().provider()), "CPUExecutionProvider"]
    with pytest.raises(OutOfMemory, match="CUDA failure 2"):
        onnx_cuda._open(Artifact.open(tiny_cross_encoder).graph("fp32"), providers, fallback=fallback)
    assert capfd.readouterr().out == ""
