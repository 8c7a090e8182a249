"""Each family of the packed runtime on a CPU in FP32 against transformers' own model, random weights and one batch.

Lengths lie on both sides of windows and blocks; the oracle reads padded rows with a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tandem.engine.models.runtime.families import shape_of  # noqa: E402
from tandem.engine.models.runtime.families.buffers import Buffers  # noqa: E402
from tandem.engine.models.runtime.families.model import PackedModel  # noqa: E402
from tandem.engine.models.runtime.packed import PackedRuntime  # noqa: E402
from tandem.engine.text.tokens import TokenBatch, cumulative  # noqa: E402
from tandem.export.quiet import quiet  # noqa: E402
from tandem.kernels.rope import rope_table  # noqa: E402

LENGTHS = (1, 7, 100, 33, 2, 64, 65)
PAD = 3
ATOL = 1e-4
SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "max_position_embeddings": 120, "initializer_range": 0.3, "pad_token_id": PAD, "num_labels": 1,
}  # fmt: skip
"""Weights that are not small: at the usual 0.02 every text looks the same to so small a model."""
WINDOWS: dict[str, Any] = {
    "num_hidden_layers": 4, "local_attention": 12, "reference_compile": False, "cls_token_id": 4, "bos_token_id": 4,
    "sep_token_id": 5, "eos_token_id": 5,
}  # fmt: skip
SHARED: dict[str, Any] = {"num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 32}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {"num_hidden_layers": 3}),
    "roberta": ("Roberta", {"num_hidden_layers": 3, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", {"num_hidden_layers": 2, "type_vocab_size": 1}),
    "camembert": ("Camembert", {"num_hidden_layers": 2, "type_vocab_size": 1}),
    "modernbert": ("ModernBert", WINDOWS),
    "modernbert, window last": ("ModernBert", {**WINDOWS, "num_hidden_layers": 3}),
    "modernbert, mean": ("ModernBert", {**WINDOWS, "classifier_pooling": "mean"}),
    "qwen3": ("Qwen3", SHARED),
}


def model_of(name: str, kind: str) -> tuple[Any, dict[str, Any]]:
    """A random model of transformers, and its config.json."""
    family, more = MODELS[name]
    # Quiet: the first ModernBERT of a process imports modules of PyTorch that warn of their own age.
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**SIZES | more)
        model = getattr(transformers, family + kind)(config).eval()
        for parameter in model.parameters():  # norms and biases start as ones and zeros, which would hide a swap
            if parameter.dim() == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
    return model, {**config.to_dict(), "model_type": config.model_type}


def batch() -> TokenBatch:
    """Ids beyond the special ones, but one that is the padding's within a text."""
    ids = np.random.default_rng(0).integers(6, 300, sum(LENGTHS)).astype(np.int32)
    return TokenBatch(ids, cumulative(LENGTHS))


def padded(rows: TokenBatch) -> dict[str, Any]:
    """The same as transformers reads them."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.full(mask.shape, PAD)
    ids[mask] = torch.from_numpy(rows.ids.astype(np.int64))
    return {"input_ids": ids, "attention_mask": mask.long()}


def hidden_states(model: Any, rows: TokenBatch) -> list[Any]:
    """[length, width] of each sequence."""
    with torch.no_grad():
        states = model(**padded(rows)).last_hidden_state
    return [row[:length] for row, length in zip(states, LENGTHS, strict=True)]


def ours(config: dict[str, Any], model: Any, head: Any) -> PackedRuntime:
    return PackedRuntime(PackedModel(config, model.state_dict(), head, torch.float32, "cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_those_of_transformers(name: str) -> None:
    model, config = model_of(name, "Model")
    states = hidden_states(model, batch())
    pooled = {"mean": lambda row: row.mean(0), "cls": lambda row: row[0], "lasttoken": lambda row: row[-1]}
    for head, pool in pooled.items():
        expected = torch.stack([pool(row) for row in states])
        assert expected.std(0).mean() > 0.1  # texts differ
        np.testing.assert_allclose(ours(config, model, head).run(batch()), expected.numpy(), atol=ATOL)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_transformers(name: str) -> None:
    model, config = model_of(name, "ForSequenceClassification")
    with torch.no_grad():
        expected = model(**padded(batch())).logits[:, 0]
    scores = ours(config, model, "logit").run(batch())
    assert scores.dtype == np.float32
    assert expected.std() > 0.1
    np.testing.assert_allclose(scores, expected.numpy(), atol=ATOL)


def test_two_labels_are_the_difference_of_their_logits() -> None:
    model, config = model_of("bert", "ForSequenceClassification")
    model.classifier = torch.nn.Linear(64, 2)
    with torch.no_grad():
        logits = model.double()(**padded(batch())).logits
    expected = (logits[:, 1] - logits[:, 0]).numpy()
    np.testing.assert_allclose(ours(config, model.float(), "logit").run(batch()), expected, atol=ATOL)


def test_a_text_that_has_the_padding_token_is_read_as_roberta_reads_it() -> None:
    """Its position is the padding's, and those behind it are one less."""
    model, config = model_of("roberta", "Model")
    rows = batch()
    rows.ids[[0, 3, 50, 51, 107]] = PAD
    expected = torch.stack([row.mean(0) for row in hidden_states(model, rows)])
    np.testing.assert_allclose(ours(config, model, "mean").run(rows), expected.numpy(), atol=ATOL)


def test_segments_are_read() -> None:
    model, config = model_of("bert", "Model")
    rows = batch()
    segments = np.random.default_rng(1).integers(0, 2, len(rows.ids)).astype(np.uint8)
    told = TokenBatch(rows.ids, rows.cu_seqlens, segments)
    feeds = padded(rows)
    feeds["token_type_ids"] = torch.zeros_like(feeds["input_ids"])
    feeds["token_type_ids"][feeds["attention_mask"].bool()] = torch.from_numpy(segments.astype(np.int64))
    with torch.no_grad():
        expected = model(**feeds).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours(config, model, "cls").run(told), expected.numpy(), atol=ATOL)


@pytest.mark.parametrize("name", MODELS)
def test_the_longest_sequence_is_within_the_positions(name: str) -> None:
    _, config = model_of(name, "Model")
    shape = shape_of(config)
    assert not isinstance(shape, str)
    assert shape.positions == 120 - (PAD + 1 if "rob" in name or "camem" in name else 0)


@pytest.mark.parametrize("name", MODELS)
def test_memory_is_counted_to_the_byte(name: str) -> None:
    shape = shape_of(model_of(name, "Model")[1])
    assert not isinstance(shape, str)
    held = Buffers(shape, 48, torch.float16, "cpu")
    assert 48 * shape.token_bytes == held.stream.nbytes + held.narrow.nbytes + held._work.nbytes
    thetas = {layer.theta for layer in shape.layers if layer.theta is not None}
    tables = [rope_table(shape.positions, shape.head_dim, theta, "cpu") for theta in thetas]
    assert shape.table_bytes == sum(table.nbytes for table in tables)
