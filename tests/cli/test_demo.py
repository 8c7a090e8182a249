"""The first thing a new user runs, with the bundled models, on a small corpus."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tandem.cli import main
from tandem.engine import Engine
from tandem.export.parity import samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def demo(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[str, str]:
    corpus = ("--corpus", "python:json,shutil,zipfile,tempfile")
    # Fewer texts prove the exports in the third of the time; tests/export proves them as they are.
    few = samples.docstrings()[:24]
    monkeypatch.setattr(samples, "docstrings", lambda: few)
    monkeypatch.setattr(sys, "argv", ["tandem", "demo", *corpus, "--folder", str(folder), *more])
    try:
        main()
    except SystemExit as end:
        assert not end.code, capsys.readouterr().err  # noqa: PT017
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_demo_answers_in_two_stages_and_makes_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    question = ("--question", "temporary folder that is deleted when I am done")
    out, err = demo(folder, monkeypatch, capsys, *question)
    assert "exporting" in err
    assert "TemporaryDirectory" in out
    assert "rerank" in out
    _, err = demo(folder, monkeypatch, capsys, *question)
    assert "already exported" in err
    assert "nothing changed" in err


def test_the_bundled_reranker_knows_an_answer_from_a_stranger(folder: Path):
    collection = next((folder / "collections").iterdir())
    with Engine.open(collection, device="cpu", warm_up=False) as engine:
        ranked = engine.rerank(
            "how do I copy a whole folder",
            [
                "Return True if the archive contains an encrypted file.",
                "Recursively copy a directory tree and return the destination directory.",
                "The moon orbits the earth in about twenty-seven days.",
            ],
        )
        assert ranked[0].index == 1
        assert engine.fusion.recall_weight > 0  # fitted at validation, carried by the artifact
        hits = engine.search("how do I copy a whole folder", budget_ms=None).hits
        assert "shutil.copytree" in [hit.document for hit in hits[:3]]
