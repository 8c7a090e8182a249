from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.errors import DeviceError, InputError
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.runtime import choose
from tandem.engine.models.runtime.select import shape_problem
from tandem.engine.platform import cuda_driver
from tandem.engine.platform.device import Device

CPU, CUDA = Device("cpu", "a test", 1), Device("cuda", "a test", 1)
ORDER = ("int8", "fp32")


@pytest.fixture
def artifact(packable_cross_encoder: Path) -> Artifact:
    return Artifact.open(packable_cross_encoder)


@pytest.fixture
def unknown(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The same artifact, of a family that the packed runtime does not know."""
    config = {**artifact.architecture(), "model_type": "deberta-v2"}
    monkeypatch.setattr(type(artifact), "architecture", lambda self: config)
    return artifact


@pytest.fixture
def torch_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "torch_problem", lambda: None)


def test_on_a_cpu_auto_is_onnx_and_packed_is_exact(artifact: Artifact):
    assert (
        choose("auto", artifact, CPU, "auto", ORDER).runtime,
        choose("auto", artifact, CPU, "auto", ORDER).precision,
    ) == (
        "onnx",
        "int8",
    )
    packed = choose("packed", artifact, CPU, "auto", ORDER)
    assert (packed.runtime, packed.precision) == ("packed", "fp32")


@pytest.mark.usefixtures("torch_works")
def test_on_a_gpu_auto_is_packed_in_half_precision(artifact: Artifact):
    chosen = choose("auto", artifact, CUDA, "auto", ORDER)
    assert (chosen.runtime, chosen.precision) == ("packed", "fp16")
    assert "supports the model" in chosen.reason


@pytest.mark.usefixtures("torch_works")
def test_on_a_gpu_onnx_takes_over_with_the_reason(unknown: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "onnx_problem", None)
    chosen = choose("auto", unknown, CUDA, "auto", ORDER)
    assert chosen.runtime == "onnx"
    assert "family is deberta-v2" in chosen.reason


@pytest.mark.usefixtures("torch_works")
def test_a_precision_that_packed_has_not_goes_to_onnx(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "onnx_problem", None)
    chosen = choose("auto", artifact, CPU, "int8", ORDER)
    assert (chosen.runtime, chosen.precision) == ("onnx", "int8")
    with pytest.raises(InputError, match="fp32 are for CPUs"):
        choose("auto", artifact, CUDA, "fp32", ORDER)


def test_without_any_runtime_both_reasons_are_told(unknown: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "onnx_problem", "ONNX Runtime has no provider")
    with pytest.raises(DeviceError, match=r"family is deberta-v2.*no provider"):
        choose("auto", unknown, CUDA, "auto", ORDER)
    with pytest.raises(DeviceError, match="no provider"):
        choose("onnx", unknown, CUDA, "auto", ORDER)


def test_what_packed_cannot_run_is_one_clear_error(unknown: Artifact):
    with pytest.raises(InputError, match=r"family is deberta-v2.*runtime=auto"):
        choose("packed", unknown, CPU, "auto", ORDER)
    with pytest.raises(InputError, match="choose auto, onnx or packed"):
        choose("fast", unknown, CPU, "auto", ORDER)  # type: ignore[arg-type]


def test_heads_of_another_width_are_refused(tiny_cross_encoder: Path):
    with pytest.raises(InputError, match="heads are 8 wide"):
        choose("packed", Artifact.open(tiny_cross_encoder), CPU, "auto", ORDER)


def test_int8_is_not_packed(artifact: Artifact):
    with pytest.raises(InputError, match="computes in fp32"):
        choose("packed", artifact, CPU, "int8", ORDER)


def with_config(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, **changed: object) -> Artifact:
    config = artifact.architecture() | changed
    monkeypatch.setattr(type(artifact), "architecture", lambda self: config)
    return artifact


def test_a_setting_that_packed_does_not_honour_is_told(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        InputError, match=r"its hidden_act is relu, and the packed runtime knows gelu; use runtime=auto"
    ):
        choose("packed", with_config(artifact, monkeypatch, hidden_act="relu"), CPU, "auto", ORDER)


def test_a_head_that_packed_does_not_know_is_told(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="BertModel"):
        choose("packed", with_config(artifact, monkeypatch, architectures=["BertModel"]), CPU, "auto", ORDER)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"pooling": "max"}, "it pools by max, and the packed runtime by mean, cls, lasttoken"),
        ({"pooling": None}, "it pools by more than one step"),
        ({"dimension": 32}, "its vectors have 32 of the 64 numbers"),
    ],
)
def test_vectors_that_packed_does_not_give_are_told(packable_bi_encoder: Path, changed: dict[str, object], reason: str):
    artifact = Artifact.open(packable_bi_encoder)
    assert shape_problem(artifact) is None
    artifact.manifest = artifact.manifest.model_copy(update=changed)
    assert reason in str(shape_problem(artifact))
