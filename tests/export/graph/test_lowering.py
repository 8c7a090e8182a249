"""Every family's graph, for a CPU and for a GPU, computes what transformers computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tandem.bench.random_models.families import CONFIGS, random_model
from tandem.export.families import FAMILIES
from tandem.export.graph import traced_attention
from tandem.export.graph.gpu_fusion import fuse_for_gpu
from tandem.export.graph.head import PREFIX
from tandem.export.graph.last_layer import narrow_last_layer
from tandem.export.graph.lowering import counts, lower
from tandem.export.graph.precision import to_fp16
from tandem.export.graph.trace import trace
from tandem.export.source.network import Classifier

from .networks import expected, loaded, run, sequences, traced

BATCH = sequences([41, 7, 1, 30, 16, 17])


def test_every_family_has_a_model_here():
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_graphs_are_the_model(family: str, tmp_path: Path):
    """Read at the token that narrows the last layer, where the family has such a token; windows and groups included."""
    model = random_model(family)
    mode = "lasttoken" if FAMILIES[family].decoder else "cls"
    reference = expected(model, BATCH, mode)
    pad_id = model.config.pad_token_id
    for masked in (False, True):
        graph = loaded(traced(model, family, mode, tmp_path, masked=masked))
        target = "gpu" if masked else "cpu"
        narrow_last_layer(graph, target)
        lower(graph, target)
        assert not [node for node in graph.graph.node if node.domain == "tandem"]
        np.testing.assert_allclose(run(graph, BATCH, pad_id=pad_id), reference, atol=1e-5)
        if masked:
            fuse_for_gpu(graph)
            np.testing.assert_allclose(run(graph, BATCH, pad_id=pad_id), reference, atol=1e-5)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A BERT's traced graphs: read at its first token and at all, for a CPU and for a GPU."""
    folder, model = tmp_path_factory.mktemp("bert"), random_model("bert")
    return {
        "cls": traced(model, "bert", "cls", folder, masked=False),
        "mean": traced(model, "bert", "mean", folder, masked=False),
        "gpu": traced(model, "bert", "mean", folder, masked=True),
    }


def test_a_cpu_graph_has_the_fast_operators_and_no_mask(bert: dict[str, Path], tmp_path: Path):
    graph = loaded(bert["mean"])
    lower(graph, "cpu")
    assert counts(graph) == {"Gelu": 2, "LayerNormalization": 5, "MultiHeadAttention": 2}
    assert [entry.name for entry in graph.graph.input] == ["input_ids"]
    onnx.save(graph, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert "SkipLayerNormalization" not in ran, (
        "ONNX Runtime joins Add and norm unless they are written as Sum and norm"
    )
    assert ran["LayerNormalization"] == 5


def test_a_gpu_graph_has_one_mask_for_all_layers_and_nothing_computed_twice(bert: dict[str, Path]):
    graph = loaded(bert["gpu"])
    lower(graph, "gpu")
    fuse_for_gpu(graph)
    found = Counter(node.op_type for node in graph.graph.node)
    assert (found["MultiHeadAttention"], found["SkipLayerNormalization"], found["BiasGelu"]) == (2, 5, 2)
    masks = {node.input[4] for node in graph.graph.node if node.op_type == "MultiHeadAttention"}
    assert len(masks) == 1


def test_the_head_of_a_half_precision_graph_stays_exact(bert: dict[str, Path]):
    """A sum of states in half precision would lose what they differ in."""
    graph = loaded(bert["gpu"])
    lower(graph, "gpu")
    fuse_for_gpu(graph)
    kept = [node.name for node in graph.graph.node if node.name.startswith(PREFIX)]
    assert any("ReduceSum" in node.op_type for node in graph.graph.node if node.name in kept)
    half = to_fp16(graph)
    vectors = run(half, BATCH)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(vectors, run(graph, BATCH), atol=5e-3)


def test_a_last_layer_that_is_read_whole_is_left_alone(bert: dict[str, Path]):
    graph = loaded(bert["mean"])
    before = graph.SerializeToString()
    assert not narrow_last_layer(graph, "cpu")
    assert graph.SerializeToString() == before


def test_a_narrowed_last_layer_computes_one_token(bert: dict[str, Path]):
    graph = loaded(bert["cls"])
    assert narrow_last_layer(graph, "cpu")
    lower(graph, "cpu")
    last = [node for node in graph.graph.node if node.op_type == "LayerNormalization"][-1].output[0]
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    assert run(graph, sequences([35])).shape == (1, 1, 64)


def test_the_first_token_of_a_causal_model_reads_itself_alone(tmp_path: Path):
    """So its last layer is not narrowed as if it read the whole text."""
    model = random_model("qwen3")
    graph = loaded(traced(model, "qwen3", "cls", tmp_path, masked=False))
    assert not narrow_last_layer(graph, "cpu")
    lower(graph, "cpu")
    batch = sequences([9, 20])
    np.testing.assert_allclose(run(graph, batch), expected(model, batch, "cls"), atol=1e-5)


def test_a_narrowed_graph_says_no_shape_that_it_has_not(bert: dict[str, Path]):
    """ONNX Runtime plans its buffers by what a graph notes."""
    graph = loaded(bert["cls"])
    assert narrow_last_layer(graph, "cpu")
    lower(graph, "cpu")
    onnx.shape_inference.infer_shapes(graph, strict_mode=True)


def test_windows_are_read_in_blocks_of_any_length(tmp_path: Path):
    """Lengths around the multiples of a block, where its neighbours begin and end."""
    model = random_model("modernbert")
    graph = loaded(traced(model, "modernbert", "mean", tmp_path, masked=False))
    lower(graph, "cpu")
    assert counts(graph)["BlockAttention"] == 1
    batch = sequences([1, 7, 8, 9, 15, 16, 17, 24, 25, 64, 100])
    np.testing.assert_allclose(run(graph, batch), expected(model, batch, "mean"), atol=1e-5)


def test_a_causal_window_reads_back_so_many_tokens(tmp_path: Path):
    model = random_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)
    reference = expected(model, BATCH, "mean")
    for masked in (False, True):
        graph = loaded(traced(model, "qwen2", "mean", tmp_path, masked=masked))
        lower(graph, "gpu" if masked else "cpu")
        np.testing.assert_allclose(run(graph, BATCH), reference, atol=1e-5)


def test_each_rms_norm_is_one_operator(tmp_path: Path):
    """Two layers of Qwen3 have nine: two a layer, one for the queries' and one for the keys' heads, and the last."""
    graph = loaded(traced(random_model("qwen3"), "qwen3", "mean", tmp_path, masked=False))
    lower(graph, "cpu")
    assert counts(graph)["SimplifiedLayerNormalization"] == 9
    assert not [node for node in graph.graph.node if node.op_type == "Reciprocal"]


def test_a_mean_over_tokens_is_not_one_token(tmp_path: Path):
    """EuroBERT's head reads every token, averages what it says, and takes the first label: a Gather as of a token."""
    model = random_model("eurobert", "cross-encoder")
    batch = sequences([9, 20])
    with torch.inference_mode():
        reference = [
            model(input_ids=torch.from_numpy(batch[row][None].astype(np.int64))).logits[0, 0].item() for row in range(2)
        ]
    traced_attention.register()
    model.set_attn_implementation(traced_attention.NAME)
    trace(Classifier(model), ("input_ids",), "score", tmp_path / "traced.onnx")
    graph = loaded(tmp_path / "traced.onnx")
    assert not narrow_last_layer(graph, "cpu")
    lower(graph, "cpu")
    np.testing.assert_allclose(run(graph, batch), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mpnet", "t5"])
def test_buckets_of_relative_positions_are_exact_in_half_precision(family: str, tmp_path: Path):
    model = random_model(family)
    graph = loaded(traced(model, family, "mean", tmp_path, masked=True))
    lower(graph, "gpu")
    batch = sequences([100, 31, 64])
    reference = expected(model, batch, "mean")
    np.testing.assert_allclose(run(to_fp16(graph), batch, pad_id=model.config.pad_token_id), reference, atol=5e-3)
