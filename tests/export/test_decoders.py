"""Decoders from a repository to the engine: the template, an instruction per request, the last token's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder as TheirCrossEncoder

from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.platform.device import Device
from tandem.engine.text.prompting import PromptWish
from tandem.export import export_model
from tandem.export.parity.samples import docstrings
from tandem.export.quiet import quiet
from tandem.export.source.card_templates import card_template

from .source.repositories import decoder_reranker, edit

CPU = Device("cpu", "a test", 1)
TEXTS = docstrings()[:30]
PASSAGES = ["a", "some words", TEXTS[3]]


def ours(model: CrossEncoder, query: str, wish: PromptWish) -> np.ndarray:
    tokenizer = model.tokenizer
    return model.compute_all(tokenizer.pairs(tokenizer.query(query, wish), tokenizer.passages(PASSAGES)))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrossEncoder]:
    folder = tmp_path_factory.mktemp("decoder")
    source = decoder_reranker(folder / "source")
    artifact = export_model(str(source), "cross-encoder", folder / "artifact", precisions=("fp32", "int8"), texts=TEXTS)
    return source, CrossEncoder(artifact, CPU, "fp32")


@pytest.mark.parametrize("instruction", [None, "Find code that does it"])
def test_scores_are_those_of_sentence_transformers(reranker: tuple[Path, CrossEncoder], instruction: str | None):
    source, model = reranker
    with quiet():
        theirs = TheirCrossEncoder(str(source), device="cpu")
        expected = theirs.predict(
            [("what is it?", text) for text in PASSAGES], prompt=instruction, activation_fn=torch.nn.Identity()
        )
    actual = ours(model, "what is it?", PromptWish(instruction=instruction))
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_a_template_that_stands_in_the_card_only_is_applied_with_a_line_that_says_so(tmp_path: Path):
    """The repository's own is one of a chat: it has no places for a query and a document."""
    source = decoder_reranker(tmp_path / "Qwen3-Reranker-0.6B", "{{ messages[-1]['content'] }}")
    edit(source / "config.json", max_position_embeddings=1024)  # the template alone is longer than the tiny model reads
    edit(source / "tokenizer_config.json", model_max_length=1024)
    lines: list[str] = []
    artifact = export_model(
        str(source), "cross-encoder", tmp_path / "artifact", precisions=("fp32",), texts=TEXTS, progress=lines.append
    )
    assert any("template of the model's card" in line for line in lines)
    text = artifact.manifest.pair_text
    assert text is not None
    assert text.instruction == "Given a web search query, retrieve relevant passages that answer the query"
    assert text.neck == "\n<Query>: "
    assert text.middle == "\n<Document>: "
    assert text.tail.endswith("</think>\n\n")
    assert artifact.manifest.variants["fp32"].parity.kendall_tau > 0.99


def test_another_name_has_no_card():
    assert card_template("somebody/Qwen3-Reranker-0.6B") is not None
    assert card_template("Qwen3-Embedding-0.6B") is None
