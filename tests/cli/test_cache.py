"""Where exported models are found again, and what an interrupted export leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tandem.cli.cache import cache_folder
from tandem.cli.demo_models import ENCODER, RERANKER, SUGGESTED, demo_models
from tandem.engine.collection.versions import writer_lock
from tandem.engine.errors import ArtifactError, ExportError, StorageError
from tandem.engine.models.artifact import MANIFEST, Artifact
from tandem.export import bundled_artifacts
from tandem.export.bundled import BUNDLED, adapter_mark


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "tandem"
    for unusable in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache_folder() == tmp_path / ".cache" / "tandem"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "tandem"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> list[str]:
    """Names of models as they are exported: tiny ones in the place of the bundled, which take minutes."""
    made: list[str] = []
    tiny = {"bi-encoder": tiny_bi_encoder, "cross-encoder": tiny_cross_encoder}

    def export_model(name: str, kind: str, path: Path, progress=None) -> Artifact:
        made.append(name)
        if path.exists():
            shutil.rmtree(path)
        shutil.copytree(tiny[kind], path)
        manifest = Artifact.open(path).manifest
        mark = adapter_mark(BUNDLED[name].adapter) if name in BUNDLED else None
        source = manifest.source.model_copy(update={"adapter": mark})
        (path / MANIFEST).write_text(manifest.model_copy(update={"source": source}).model_dump_json())
        return Artifact.open(path)

    monkeypatch.setattr(bundled_artifacts, "export_model", export_model)
    monkeypatch.setattr("tandem.export.export_model", export_model, raising=False)
    return made


def test_models_are_exported_once_wherever_one_is(exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for here in ("one", "two"):
        (tmp_path / here).mkdir()
        monkeypatch.chdir(tmp_path / here)
        encoder, reranker = demo_models(tmp_path / "cache")
        assert (Artifact.open(encoder).manifest.kind, Artifact.open(reranker).manifest.kind) == (
            "bi-encoder", "cross-encoder",
        )  # fmt: skip
    assert exports == [ENCODER, RERANKER]


def test_what_an_interrupted_export_left_is_no_model_and_goes(exports: list[str], tmp_path: Path):
    for left in (f".{ENCODER}.abc.partial", f".{ENCODER}.abc.former"):
        (tmp_path / "models" / left / "onnx").mkdir(parents=True)
    demo_models(tmp_path)
    assert exports == [ENCODER, RERANKER]
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]


def test_a_damaged_model_is_exported_again(exports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    encoder, _ = demo_models(tmp_path)
    next(encoder.rglob("*.onnx")).write_bytes(b"half of it")
    demo_models(tmp_path)
    assert exports == [ENCODER, RERANKER, ENCODER]
    assert "exporting it again" in capsys.readouterr().err


def test_two_exports_into_one_folder_do_not_meet(exports: list[str], tmp_path: Path):
    (tmp_path / "models").mkdir()
    with writer_lock(tmp_path / "models"), pytest.raises(StorageError, match="another process"):
        demo_models(tmp_path)
    assert exports == []


def test_another_reranker_is_exported_once_and_an_artifact_stays_where_it_is(
    exports: list[str], tmp_path: Path, tiny_cross_encoder: Path, capsys: pytest.CaptureFixture[str]
):
    name = "someone/reranker"
    made = [demo_models(tmp_path, name)[1] for _ in range(2)]
    assert made == [tmp_path / "models" / "someone-reranker"] * 2
    assert exports == [name, ENCODER], "the bundled cross-encoder is not needed then"
    assert f"{name} comes without weights for the final order" in (told := capsys.readouterr().err)
    assert f"{name}: already exported" in told
    assert demo_models(tmp_path, str(tiny_cross_encoder))[1] == tiny_cross_encoder
    assert exports == [name, ENCODER]


def test_a_reranker_that_cannot_be_had_is_one_sentence_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError) as told:
        demo_models(tmp_path, SUGGESTED)
    assert str(told.value) == (
        f"{SUGGESTED} is no folder here, is not in the Hub's cache, and the Hub cannot be reached (no network, or "
        "HF_HUB_OFFLINE is set); connect once, or give a local folder; or leave --reranker out: the bundled one "
        "needs no network"
    )
    assert not (tmp_path / "models" / ENCODER).exists(), "it is told before anything is made"


def test_a_model_of_the_wrong_kind_is_no_reranker(tmp_path: Path, tiny_bi_encoder: Path):
    with pytest.raises(ExportError, match="minilm-l6 is a bi-encoder"):
        demo_models(tmp_path, "minilm-l6")
    with pytest.raises(ArtifactError, match="bi-encoder"):
        demo_models(tmp_path, str(tiny_bi_encoder))
