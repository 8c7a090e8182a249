"""The mask with the rows' starts computes what the lengths compute, and lies on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from transformers import AutoModel

from tandem.engine.errors import ExportError
from tandem.engine.text.tokens import PaddedBatch
from tandem.export.graph import fuse
from tandem.export.graph.attention_mask import LENGTHS_AND_STARTS, add_row_starts
from tandem.export.graph.precision import to_fp16
from tandem.export.graph.trace import trace
from tandem.export.parity.scoring import onnx_forward

from ...tiny import tiny_model


@pytest.fixture(scope="module", params=["bert", "xlm-roberta"])
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model of each family whose attention is fused, and its traced graph."""
    folder = tmp_path_factory.mktemp("model")
    loaded = AutoModel.from_pretrained(tiny_model(folder / "source", request.param)).eval()
    trace(loaded, "bi-encoder", folder / "traced.onnx")
    return loaded, folder / "traced.onnx"


def padded(*lengths: int) -> PaddedBatch:
    """Random ids, as many to each row; padding as the family's own does not matter here."""
    random = np.random.default_rng(len(lengths))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, random.integers(5, 900, mask.shape), 1)
    return PaddedBatch(ids, mask, np.zeros_like(mask))


BATCHES = [padded(7), padded(9, 4), padded(1, 30, 12, 30, 3)]


def with_lengths(model: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    monkeypatch.setattr(fuse, "add_row_starts", lambda model: None)
    made = fuse.fuse(model[1], model[0].config, "gpu")
    monkeypatch.undo()
    return made


@pytest.mark.parametrize("convert", [lambda model: model, to_fp16], ids=["fp32", "fp16"])
def test_scores_are_those_of_lengths_alone(model, monkeypatch, convert):
    old = onnx_forward(convert(with_lengths(model, monkeypatch)).SerializeToString())
    new = onnx_forward(convert(fuse.fuse(model[1], model[0].config, "gpu")).SerializeToString())
    for batch in BATCHES:
        np.testing.assert_array_equal(new(batch), old(batch))


def test_hidden_states_are_those_of_pytorch(model):
    new = onnx_forward(fuse.fuse(model[1], model[0].config, "gpu").SerializeToString())
    for batch in BATCHES:
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        with torch.inference_mode():
            expected = model[0](input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        real = batch.mask.astype(bool)
        np.testing.assert_allclose(new(batch)[real], expected[real], atol=2e-5)


def test_every_attention_reads_lengths_and_the_starts_of_padded_rows(model):
    graph = fuse.fuse(model[1], model[0].config, "gpu")
    onnx.checker.check_model(graph)
    assert [node.input[3] for node in graph.graph.node if node.op_type == "Attention"] == [LENGTHS_AND_STARTS] * 2
    graph.graph.output.insert(0, helper.make_tensor_value_info(LENGTHS_AND_STARTS, onnx.TensorProto.INT32, [None]))
    mask = onnx_forward(graph.SerializeToString())
    assert mask(padded(9, 4)).tolist() == [9, 4, 0, 9, 18, 0, 9, 18]
    assert mask(padded(7)).tolist() == [7, 0, 7, 0, 7]


def test_nothing_of_it_lies_on_the_cpu(model):
    """A Shape's output does, whatever the provider, and what is computed from it stays there."""
    graph = fuse.fuse(model[1], model[0].config, "gpu").graph
    producers = {output: node for node in graph.node for output in node.output}
    seen, waiting = set(), [LENGTHS_AND_STARTS]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type != "EmbedLayerNormalization":
            seen.add(node.op_type)
            waiting.extend(node.input)
    assert {"Concat", "CumSum", "Gather", "Cast"} <= seen
    assert "Shape" not in seen


def two_masks(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Attention").input[3] = "another"


def no_mask(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Attention":
            del node.input[3:]


def raw_mask(model: onnx.ModelProto) -> None:
    mask = next(node.output[0] for node in model.graph.node if list(node.input) == ["attention_mask"])
    for node in model.graph.node:
        if node.op_type == "Attention":
            node.input[3] = mask


def another_input(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if list(node.input) == ["attention_mask"]).input[0] = "input_ids"


@pytest.mark.parametrize("change", [two_masks, no_mask, raw_mask, another_input])
def test_another_mask_is_refused(model, monkeypatch, change):
    graph = with_lengths(model, monkeypatch)
    change(graph)
    with pytest.raises(ExportError, match="not the number of each row's tokens"):
        add_row_starts(graph)
