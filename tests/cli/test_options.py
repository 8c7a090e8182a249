"""Options made of a model's fields: what a command gets, what its help says, and that the model judges."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from tandem.cli.options import with_options
from tandem.engine import InputError
from tandem.engine.config import EngineOptions, SearchOptions, SearchSettings


class Model(BaseModel):
    count: int = Field(default=3, ge=1, description="How many")
    weight: float | None = Field(default=0.5, description="How much; none: nothing")
    kind: Literal["a", "b"] = Field(default="a", description="Which")
    loud: bool = Field(default=True, description="Whether to be heard")
    hidden: int = 0


class Other(BaseModel):
    name: str = Field(default="me", description="Who")


@pytest.fixture
def run():
    app = typer.Typer()

    @app.command()
    @with_options(Other, panel="More")
    @with_options(Model, leave_out=("hidden",), panel="Some")
    def command(word: str, given: dict[str, Any]) -> None:
        typer.echo(json.dumps({"word": word, **given}))

    def answer(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output

    return answer


def test_a_command_gets_what_was_given_and_nothing_else(run):
    assert json.loads(run("w")) == {"word": "w"}
    given = json.loads(run("w", "--count", "5", "--weight", "none", "--kind", "b", "--no-loud", "--name", "you"))
    assert given == {"word": "w", "count": 5, "weight": None, "kind": "b", "loud": False, "name": "you"}


def test_what_is_no_value_is_left_to_the_model(run):
    assert json.loads(run("w", "--count", "many", "--kind", "z")) == {"word": "w", "count": "many", "kind": "z"}
    with pytest.raises(InputError, match="setting top_k = 'many'"):
        SearchSettings(top_k="many")


def test_help_has_the_fields_words_defaults_and_choices(run):
    said = " ".join(run("--help").split())
    for words in (
        "How many. Default: 3.",
        "One of a, b. Default: a.",
        "nothing. Default: 0.5.",
        "Default: on.",
        "--no-loud",
    ):
        assert words in said
    assert "hidden" not in said


def test_every_option_of_the_engine_has_its_words():
    for model in (SearchOptions, EngineOptions):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert not field.description.endswith("."), name
