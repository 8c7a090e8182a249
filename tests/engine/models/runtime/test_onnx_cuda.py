"""The CUDA form of the ONNX runtime, on a CPU uncaptured: shapes, buffers and binding are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine.errors import DeviceError, OutOfMemory
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.models.runtime import onnx_cuda, onnx_output
from tandem.engine.models.runtime.onnx_cuda import CudaOptions, OnnxCudaRuntime
from tandem.engine.platform.device import Device
from tandem.engine.platform.device_wide import capturing
from tandem.engine.text.tokens import TokenBatch

CPU = Device("cpu", "a test", 1)
TEXTS = ["a", "the list is sorted in place", "returns a new string " * 12, "file", "open the file and read it " * 5] * 5


def runtime(artifact: Artifact, head: Any) -> OnnxCudaRuntime:
    manifest = artifact.manifest
    return OnnxCudaRuntime(
        artifact.graph("fp32"), pad_id=manifest.pad_id, head=head, width=manifest.dimension or 1,
        max_length=manifest.max_length, device=CPU,
    )  # fmt: skip


def test_logits_are_those_of_the_cpu_runtime(tiny_cross_encoder: Path):
    oracle = CrossEncoder(Artifact.open(tiny_cross_encoder), CPU, "fp32")
    ours = runtime(oracle.artifact, "logit")
    batch = oracle.tokenizer.pairs(oracle.tokenizer.encode("sort"), oracle.tokenizer.encode_many(TEXTS))
    expected = oracle.runtime.run(batch)
    np.testing.assert_allclose(ours.run(batch), expected, atol=1e-5)
    np.testing.assert_allclose(ours.run(batch), expected, atol=1e-5)  # buffers that hold another batch's rest


@pytest.mark.parametrize("where", [onnx_output.PooledOutput, onnx_output.WholeOutput])
@pytest.mark.parametrize("head", ["mean", "cls"])
def test_pooled_states_are_those_of_the_cpu_runtime(
    tiny_bi_encoder: Path, monkeypatch: pytest.MonkeyPatch, head: Any, where: type
):
    if where is onnx_output.PooledOutput:
        pytest.importorskip("torch")
    monkeypatch.setattr(onnx_output, "torch_reaches", lambda place: where is onnx_output.PooledOutput)
    made: list[onnx_output.Output] = []
    bind = where.bind
    monkeypatch.setattr(where, "bind", lambda self, *names: (made.append(self), bind(self, *names))[1])
    model = BiEncoder(Artifact.open(tiny_bi_encoder), CPU, "fp32")
    batch = model.tokenizer.single(model.tokenizer.encode_many(TEXTS))
    rows = runtime(model.artifact, head).run(batch)
    assert made, "the other kind of output was bound"
    if head == "mean":
        np.testing.assert_allclose(rows, model.runtime.run(batch), atol=1e-5)
    alone = np.concatenate([runtime(model.artifact, head).run(batch.select([row])) for row in range(5)])
    np.testing.assert_allclose(rows[:5], alone, atol=1e-5)


def test_warming_up_runs_every_shape(tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tandem.engine.models.runtime.onnx_cuda.LOGIT_TOKENS", 256)
    ours = runtime(Artifact.open(tiny_cross_encoder), "logit")
    ours.warm_up()
    assert set(ours._slots) == set(ours.buckets.largest_first())


def test_places_without_a_sequence_are_never_nan(tiny_cross_encoder: Path):
    ours = runtime(Artifact.open(tiny_cross_encoder), "logit")
    batch = TokenBatch(np.array([2, 5, 3], dtype=np.int32), np.array([0, 3]))
    slot = ours._slot(next(bucket for bucket in ours.buckets.largest_first() if bucket.batch == 4))
    mask = slot.fill(batch, 0)
    assert np.isfinite(slot.run(ours._session, mask)).all()


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
            artifact.graph("fp32"), pad_id=0, head="logit", width=1, max_length=128, device=Device("cuda", "a test", 1)
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
    tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch, captured: bool
):
    oracle = CrossEncoder(Artifact.open(tiny_cross_encoder), CPU, "fp32")
    ours = runtime(oracle.artifact, "logit")
    ours.captured = captured
    run, held = onnx_cuda._Slot.run, list[tuple[bool, bool]]()

    def watched(slot: Any, session: Any, mask: Any) -> Any:
        held.append((capturing.locked(), onnx_cuda._running.locked()))
        return run(slot, session, mask)

    monkeypatch.setattr(onnx_cuda._Slot, "run", watched)
    batch = oracle.tokenizer.pairs(oracle.tokenizer.encode("sort"), oracle.tokenizer.encode_many(TEXTS[:1]))
    for _ in range(5):
        ours.run(batch)
    assert held == [(captured and number < 3, True) for number in range(5)]
    assert not capturing.locked()
    assert not onnx_cuda._running.locked()


def test_a_run_waits_for_its_own_stream_alone(tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    """`synchronize_outputs` waits for the whole device, and fails with error 900 while another thread captures."""

    def everything(self: Any) -> None:
        raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    ours = runtime(Artifact.open(tiny_cross_encoder), "logit")
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
