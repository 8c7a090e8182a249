"""Any combination of settings is either equal to sentence-transformers or refused in a sentence; nothing else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.errors import ExportError

from ...tiny import LAYOUTS, tiny_model, write_json, write_modules
from .repositories import HIDDEN, dense, edit, saved_cross_encoder
from .taken import assert_equal, take

WORD = st.sampled_from(["query", "document", "passage", "corpus", "web"])
PROMPT = st.sampled_from(["", "q: ", "Instruct: x\nQuery:", None])
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
MODEL = st.fixed_dictionaries(
    {},
    optional={
        "prompts": st.dictionaries(WORD, PROMPT, max_size=3) | st.just(["q: "]),
        "default_prompt_name": WORD | st.none(),
        "similarity_fn_name": st.sampled_from(["cosine", "dot", "euclidean", "maxsim", None]),
        "truncate_dim": st.sampled_from([None, 8, HIDDEN, 64, 0, "8"]),
        "activation_fn": st.sampled_from(["torch.nn.Identity", "torch.nn.Sigmoid", "torch.nn.Tanh", "mine.Swish", 3]),
        "unheard_of": st.just(1),
    },
)
SENTENCE = st.fixed_dictionaries(
    {},
    optional={
        "max_seq_length": st.sampled_from([None, 16, 64, 500, "64", 0, 2]),
        "do_lower_case": st.booleans() | st.just("yes"),
        "tokenizer_args": st.sampled_from([{}, {"model_max_length": 24}, {"truncation_side": "left"}, [1]]),
        "query_length": st.sampled_from([None, 8]),
        "unpad_inputs": st.sampled_from([None, False]),
        "unheard_of": st.just(1),
    },
)
POOLING = st.fixed_dictionaries(
    {"pooling_mode": st.sampled_from(POOLINGS) | st.lists(st.sampled_from(POOLINGS), min_size=1, max_size=3)},
    optional={"include_prompt": st.booleans(), "unheard_of": st.just(1)},
)
MODULES = st.lists(st.sampled_from(["Dense", "Normalize", "LayerNorm", "Pooling", "Dropout"]), max_size=2)
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "query_prompt": st.sampled_from(["", "find: "]),
        "passage_prompt": st.sampled_from(["", "text: "]),
        "max_length": st.sampled_from([12, 128, 129]),
        "dimensions": st.sampled_from([4, HIDDEN, 200]),
        "pooling": st.just("mean"),
    },
)
CASE = st.fixed_dictionaries(
    {
        "layout": st.sampled_from(LAYOUTS),
        "kind": st.sampled_from(["bi-encoder", "bi-encoder", "cross-encoder"]),
        "model": st.one_of(st.just({}), MODEL),
        "sentence": st.one_of(st.just({}), SENTENCE),
        "pooling": st.one_of(st.just({}), POOLING),
        "modules": st.one_of(st.just([]), MODULES),
        "tokenizer": st.sampled_from([{}, {"model_max_length": 48}, {"truncation_side": "left"}]),
        "wishes": st.one_of(st.just({}), WISHES),
    }
)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """The models whose settings vary, made once."""
    folder = tmp_path_factory.mktemp("bodies")
    for layout in LAYOUTS:
        tiny_model(folder / f"bi-encoder {layout}", layout=layout)
    saved_cross_encoder(folder / "cross-encoder")
    return folder


def check(bodies: Path, case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = _written(bodies, Path(scratch) / "model", case)
        try:
            taken = take(folder, case["kind"], **case["wishes"])
        except ExportError as error:
            said = str(error)
            assert said.isprintable(), said
            assert len(said) < 600
            assert ". " not in said.rstrip("."), said  # one sentence
            assert any(name in said for name in _named(case)), said
        else:
            assert_equal(taken, Path(scratch) / "ours", asked=_asked(case["wishes"]))


def _written(bodies: Path, folder: Path, case: dict[str, Any]) -> Path:
    """A copy of a body with the settings of `case`."""
    kind, layout = case["kind"], case["layout"]
    shutil.copytree(bodies / (kind if kind == "cross-encoder" else f"{kind} {layout}"), folder)
    for name, changes in (
        ("config_sentence_transformers.json", case["model"]),
        ("sentence_bert_config.json", case["sentence"]),
        ("tokenizer_config.json", case["tokenizer"]),
    ):
        edit(folder / name, **changes)
    if kind == "bi-encoder":
        if case["pooling"]:
            write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN} | case["pooling"])
        if case["modules"]:
            _add_modules(folder, case["modules"])
    return folder


def _add_modules(folder: Path, kinds: list[str]) -> None:
    write_modules(folder, ["Transformer", "Pooling", *kinds])
    for place, kind in enumerate(kinds, start=2):
        at = folder / f"{place}_{kind}"
        shutil.rmtree(at, ignore_errors=True)
        if kind == "Dense":
            dense(at, HIDDEN, HIDDEN)
        else:
            said = {"LayerNorm": {"dimension": HIDDEN}, "Pooling": {"word_embedding_dimension": HIDDEN}}
            write_json(at / "config.json", said.get(kind, {}))


def _named(case: dict[str, Any]) -> list[str]:
    """What a refusal may speak of: the settings of `case`, and options by their names at the command line."""
    names = [name for part in ("model", "sentence", "pooling", "tokenizer", "wishes") for name in case[part]]
    options = [f"--{name.replace('_', '-')}" for name in case["wishes"]]
    inner = ["model_max_length", "truncation_side", "compares by", "activation", "Pooling", "LayerNorm", "numbers"]
    return [*names, *options, *inner, "would read"]


def _asked(wishes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wishes.items() if name != "pooling"}


QUICK = settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


@QUICK
@given(case=CASE)
def test_accepted_is_equal_and_refused_is_a_sentence(bodies, case):
    check(bodies, case)


@pytest.mark.slow
@settings(QUICK, max_examples=400, derandomize=False)
@given(case=CASE)
def test_many_more_combinations(bodies, case):
    check(bodies, case)
