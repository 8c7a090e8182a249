from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tandem.engine.errors import ArtifactError
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.models.runtime.activations import Activations
from tandem.engine.models.runtime.onnx import OnnxRuntime, cpu_session
from tandem.engine.platform.device import Device


def cpu(threads: int) -> Device:
    return Device("cpu", "a test", threads)


TEXTS = ["a", "the list is sorted in place", "returns a new string " * 12, "file", "open the file and read it " * 5]


def test_int8_products_are_exact_on_any_processor():
    """255 * 127 twice is more than 16 bits hold, which is where AVX2's fast kernel clamps."""
    weights = np.full((64, 16), 127, dtype=np.int8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, [4, 64])],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.INT32, [4, 16])],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    left = np.full((4, 64), 255, dtype=np.uint8)
    (product,) = cpu_session(model.SerializeToString(), threads=1).run(None, {"a": left})
    assert product.tolist() == (left.astype(np.int32) @ weights.astype(np.int32)).tolist()


def test_a_graph_that_cannot_be_read_is_our_error(tmp_path: Path):
    with pytest.raises(ArtifactError, match="this graph"):
        cpu_session(b"no graph", threads=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_score_does_not_depend_on_the_batch_or_the_threads(tiny_cross_encoder: Path, threads: int, precision: Any):
    """Each sequence alone is the oracle; INT8 too, although its activations have one scale a run."""
    alone = CrossEncoder(Artifact.open(tiny_cross_encoder), cpu(1), precision)
    together = CrossEncoder(Artifact.open(tiny_cross_encoder), cpu(threads), precision)
    expected = np.concatenate([alone.score("sort a list", [text]) for text in TEXTS])
    np.testing.assert_allclose(together.score("sort a list", TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("split", ["operators", "sequences"])
def test_vectors_do_not_depend_on_the_batch_or_the_split(tiny_bi_encoder: Path, split: str):
    one = BiEncoder(Artifact.open(tiny_bi_encoder), cpu(1), "fp32")
    many = BiEncoder(Artifact.open(tiny_bi_encoder), cpu(2), "fp32", split=split)
    expected = np.concatenate([one.encode(one.tokenizer.encode_many([text])) for text in TEXTS])
    np.testing.assert_allclose(many.encode(many.tokenizer.encode_many(TEXTS)), expected, atol=1e-5)


def test_a_graph_that_is_none_is_an_artifact_error(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match="export the model again"):
        OnnxRuntime(
            tmp_path / "model.onnx", device=cpu(1), split="sequences", activations=Activations(token=1, square=0)
        )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_of_sequences_run_alone_can_be_stopped_between_them(tiny_cross_encoder: Path, threads: int):
    reranker = CrossEncoder(Artifact.open(tiny_cross_encoder), cpu(threads), "int8")
    batch = reranker.tokenizer.single(reranker.tokenizer.encode_many(TEXTS * 4))
    whole = reranker.runtime.run(batch)
    asked = itertools.count(1)
    rows = reranker.runtime.run_until(batch, lambda: next(asked) > 6)
    assert len(rows) == threads + 6  # every lane's first one is not asked for
    np.testing.assert_array_equal(rows, whole[: len(rows)])
    assert len(reranker.runtime.run_until(batch, lambda: True)) == threads


def test_a_sequence_that_fails_ends_the_batch_for_every_lane(tiny_cross_encoder: Path, monkeypatch: Any):
    reranker = CrossEncoder(Artifact.open(tiny_cross_encoder), cpu(2), "int8")
    batch = reranker.tokenizer.single(reranker.tokenizer.encode_many(TEXTS * 20))
    run, begun = OnnxRuntime._run, itertools.count(1)

    def failing(self: OnnxRuntime, some: Any, row: int) -> Any:
        if next(begun) == 5:
            raise RuntimeError("the device choked")
        return run(self, some, row)

    monkeypatch.setattr(OnnxRuntime, "_run", failing)
    with pytest.raises(RuntimeError, match="choked"):
        reranker.runtime.run(batch)
    time.sleep(0.2)
    assert next(begun) < 20  # of a hundred
