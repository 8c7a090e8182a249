"""A decoder's two rows of the vocabulary become a classifier of one row, which the packed runtime scores with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tandem.engine.models.runtime.families import score_problem, shape_of
from tandem.engine.models.runtime.families.model import PackedModel
from tandem.engine.models.runtime.packed import PackedRuntime
from tandem.engine.text.tokens import TokenBatch, cumulative
from tandem.export.quiet import quiet
from tandem.export.source.last_token import as_classifier
from tandem.export.source.network import LastTokenScorer

NO, YES = 7, 11
LENGTHS = (3, 40, 1, 17)


@pytest.fixture(scope="module")
def decoder() -> Any:
    config = transformers.Qwen3Config(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.Qwen3ForCausalLM(config).eval()


def test_yes_less_no_is_the_score_of_the_saved_classifier(decoder: Any, tmp_path: Path) -> None:
    table = decoder.get_output_embeddings().weight
    as_classifier(decoder, LastTokenScorer(decoder.base_model, table[[NO, YES]], None)).save_pretrained(tmp_path)
    config, tensors = json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors")
    assert score_problem(config) is None
    assert not isinstance(shape_of(config), str)
    assert tensors["score.weight"].shape == (1, 32)
    assert not [name for name in tensors if "lm_head" in name]
    ids = np.random.default_rng(0).integers(1, 100, sum(LENGTHS)).astype(np.int32)
    batch = TokenBatch(ids, cumulative(LENGTHS))
    scores = PackedRuntime(PackedModel(config, tensors, "logit", torch.float32, "cpu")).run(batch)
    for row, score in enumerate(scores):
        with torch.no_grad():
            logits = decoder(input_ids=torch.from_numpy(batch[row].astype(np.int64))[None]).logits[0, -1]
        assert score == pytest.approx(float(logits[YES] - logits[NO]), abs=1e-4)


def test_what_is_no_last_row_is_kept_as_it_is(decoder: Any) -> None:
    assert as_classifier(decoder, torch.nn.Identity()) is decoder
    table = decoder.get_output_embeddings().weight
    assert as_classifier(decoder, LastTokenScorer(decoder.base_model, table[:1], torch.ones(1))) is decoder
