"""Narrowing the last layer changes no logit, and leaves other graphs alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tandem.engine.errors import ExportError
from tandem.engine.text.tokens import pack
from tandem.export.graph import fuse
from tandem.export.graph.first_token import keep_first_token
from tandem.export.graph.trace import trace
from tandem.export.parity.scoring import onnx_forward
from tandem.export.source import torch_model
from tandem.export.source.resolve import Origin

from ...tiny import tiny_model


@pytest.fixture(scope="module", params=["bert", "xlm-roberta"])
def traced(request, tmp_path_factory):
    """A traced cross-encoder of three layers, and its configuration."""
    folder = tmp_path_factory.mktemp("traced")
    source = tiny_model(folder / "source", request.param, "cross-encoder", layers=3)
    model = torch_model.load(Origin("tiny", source), "cross-encoder")
    trace(model, "cross-encoder", folder / "traced.onnx")
    return folder / "traced.onnx", model.config


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_logits_stay_the_same(traced, target):
    file, config = traced
    graph = fuse.fuse(file, config, target)
    before = onnx_forward(graph.SerializeToString())
    assert keep_first_token(graph)
    after = onnx_forward(graph.SerializeToString())
    rng = np.random.default_rng(0)
    batch = pack([rng.integers(5, 500, size=length) for length in (3, 17, 1, 90)]).pad(config.pad_token_id)
    assert np.allclose(before(batch), after(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_last_normalisation_sees_one_token(traced, target):
    file, config = traced
    graph = fuse.fuse(file, config, target)
    assert keep_first_token(graph)
    kinds = ("LayerNormalization", "SkipLayerNormalization")
    last = [node for node in graph.graph.node if node.op_type in kinds][-1].output[0]
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    batch = pack([np.arange(5, 40), np.arange(5, 10)]).pad(config.pad_token_id)
    assert onnx_forward(graph.SerializeToString())(batch).shape == (2, 1, config.hidden_size)


def test_a_bi_encoder_needs_all_its_tokens(tmp_path):
    source = tiny_model(tmp_path / "source", "bert", "bi-encoder")
    model = torch_model.load(Origin("tiny", source), "bi-encoder")
    trace(model, "bi-encoder", tmp_path / "traced.onnx")
    graph = fuse.fuse(tmp_path / "traced.onnx", model.config, "cpu")
    before = graph.SerializeToString()
    assert not keep_first_token(graph)
    assert graph.SerializeToString() == before


def test_a_second_reader_of_the_last_layer_prevents_it(traced):
    file, config = traced
    graph = fuse.fuse(file, config, "cpu")
    last = [node for node in graph.graph.node if node.op_type == "LayerNormalization"][-1].output[0]
    graph.graph.node.append(onnx.helper.make_node("Identity", [last], ["hidden"]))
    assert not keep_first_token(graph)


def test_a_layer_that_did_not_fuse_is_an_error(traced):
    file, config = traced
    config = type(config).from_dict(config.to_dict() | {"num_hidden_layers": 4})
    for target, operator in (("cpu", "LayerNormalization"), ("gpu", "Attention")):
        with pytest.raises(ExportError, match=rf"fusion made \d {operator} operators where 4 layers"):
            fuse.fuse(file, config, target)


def test_onnx_runtime_leaves_the_norms_apart(traced, tmp_path):
    """The reason for Sum: what runs on a CPU has no SkipLayerNormalization even after the session's own passes."""
    import onnxruntime

    file, config = traced
    onnx.save(fuse.fuse(file, config, "cpu"), tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    run = fuse.counts(onnx.load(tmp_path / "optimized.onnx"))
    assert "SkipLayerNormalization" not in run
    assert run["LayerNormalization"] == 7
