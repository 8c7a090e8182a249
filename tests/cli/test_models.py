"""The list of models that are known to work."""

from __future__ import annotations

import json
import sys

import pytest

from tandem.cli import main
from tandem.cli.console import out
from tandem.export.bundled import BUNDLED
from tandem.export.families import FAMILIES
from tandem.export.source.card_prompts import card_prompts
from tandem.export.source.hub import HUB_ID
from tandem.export.source.known_models import KNOWN


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> str:
        monkeypatch.setenv("COLUMNS", "140")  # in a narrow window the table folds
        out.cache_clear()  # a console that another test made has that test's width
        monkeypatch.setattr(sys, "argv", ["tandem", "models", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().out

    yield run
    out.cache_clear()


def test_every_model_is_of_a_family_that_is_exported():
    assert {model.family for model in KNOWN} <= set(FAMILIES)
    assert len({model.name for model in KNOWN}) == len(KNOWN)
    assert {model.name for model in KNOWN if model.bundled} == set(BUNDLED)
    assert all(model.kind == BUNDLED[model.name].kind for model in KNOWN if model.bundled)
    assert all(HUB_ID.fullmatch(model.name) for model in KNOWN)
    assert all(0 < model.computed < model.parameters for model in KNOWN)


def test_one_of_each_kind_is_picked_for_english_and_for_many_languages():
    picked = [(model.kind, model.languages) for model in KNOWN if model.pick]
    assert sorted(picked) == [
        ("bi-encoder", "English"), ("bi-encoder", "many"), ("cross-encoder", "English"), ("cross-encoder", "many"),
    ]  # fmt: skip
    assert all(model.speed == "fast" for model in KNOWN if model.pick)


def test_a_note_about_a_cards_prompt_is_true():
    assert all(card_prompts(model.name) is not None for model in KNOWN if "of its card" in model.note)


def test_for_people(tandem):
    page = tandem()
    for model in KNOWN:
        assert f"{model.name}  " in page, model.name
    assert "for English, as bi-encoder: minilm-l6\n" in page
    assert "No download is needed for minilm-l6, minilm-l6-reranker." in page
    assert "random weights" in page


def test_for_machines(tandem):
    told = json.loads(tandem("--json"))
    assert [row["name"] for row in told["models"]] == [model.name for model in KNOWN]
    assert told["models"][0] == {
        "name": "minilm-l6", "kind": "bi-encoder", "family": "bert", "parameters": 23_000_000, "max_length": 256,
        "languages": "English", "speed": "fast", "bundled": True, "pick": True, "note": "bundled",
    }  # fmt: skip


def test_of_one_kind(tandem):
    told = json.loads(tandem("--as", "cross-encoder", "--json"))
    assert {row["kind"] for row in told["models"]} == {"cross-encoder"}
    assert "Bi-encoders" not in tandem("--as", "cross-encoder")
