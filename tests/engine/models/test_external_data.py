"""What a graph asks for is read off it as ONNX's own library reads it; what nothing vouches for is not loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine import Engine
from tandem.engine.errors import ArtifactError
from tandem.engine.models.artifact import MANIFEST, Artifact
from tandem.engine.models.external_data import external_files, locations
from tandem.export import verify_artifact

GRAPH = "onnx/model.onnx"


def elsewhere(name: str, location: str) -> TensorProto:
    """A tensor of four numbers that lies in the file `location`."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def here(name: str) -> TensorProto:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), name)


def graph(location: str, depth: int = 0) -> onnx.GraphProto:
    """A graph that has tensors wherever one may stand, one of them in a graph in a graph."""
    nodes = [
        helper.make_node("Constant", [], ["c"], value=elsewhere("c", f"{location}.node")),
        helper.make_node("Some", [], ["d"], values=[here("x"), elsewhere("y", f"{location}.list")]),
    ]
    if depth:
        nodes.append(helper.make_node("If", ["p"], ["e"], then_branch=graph(f"{location}.then", depth - 1)))
        nodes.append(helper.make_node("Many", ["p"], ["e"], graphs=[graph(f"{location}.many", depth - 1)]))
    made = helper.make_graph(nodes, "g", [], [], [here("a"), elsewhere("b", location)])
    made.sparse_initializer.add(values=elsewhere("s", f"{location}.sparse"), indices=here("i"))
    return made


def every_location(model: onnx.ModelProto) -> set[str]:
    """The same by ONNX's own description of its messages, field by field."""
    found: set[str] = set()

    def walk(message) -> None:
        if isinstance(message, TensorProto):
            found.update(entry.value for entry in message.external_data if entry.key == "location")
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                for part in [value] if hasattr(value, "ListFields") else value:
                    walk(part)

    walk(model)
    return found


def test_a_tensor_is_found_wherever_it_may_stand(tmp_path: Path) -> None:
    model = helper.make_model(graph("weights", depth=2))
    function = model.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["c"], value=elsewhere("c", "of a function")))
    function.attribute_proto.append(helper.make_attribute("default", elsewhere("c", "of a default")))
    model.training_info.add(algorithm=graph("training"), initialization=graph("start"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = locations(tmp_path / "model.onnx")
    assert found == every_location(model)
    assert {"weights", "weights.then.many.sparse", "of a function", "of a default", "training.list"} <= found


def test_a_graph_that_holds_its_weights_asks_for_nothing(tiny_bi_encoder: Path) -> None:
    for file in (tiny_bi_encoder / "onnx").iterdir():
        assert locations(file) == every_location(onnx.load(file)) == set()


@pytest.mark.parametrize(
    "data",
    [b"", b"\x3a\xff", b"\x3a\x05abc", b"\x3b", b"\xff" * 20, b"\x3a\x04\x2a\x02\x6a\x7f", b"\xba\x80\x80\x80\x40\x00"],
)
def test_nonsense_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        locations(tmp_path / "model.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "sub/../../secret", "*/_ORT_MEM_ADDR_/*", "", "x"])
def test_only_files_of_the_manifest_are_asked_for(tmp_path: Path, location: str) -> None:
    (tmp_path / "onnx").mkdir()
    model = helper.make_model(helper.make_graph([], "g", [], [], [elsewhere("b", location)]))
    (tmp_path / GRAPH).write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="which the artifact's manifest does not name"):
        external_files(tmp_path, GRAPH, {GRAPH, "secret"})


def test_a_named_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    tensors = [elsewhere("b", "./model.onnx_data"), elsewhere("c", "model.onnx_data"), elsewhere("d", "more/data")]
    (tmp_path / GRAPH).write_bytes(helper.make_model(helper.make_graph([], "g", [], [], tensors)).SerializeToString())
    named = {GRAPH, "onnx/model.onnx_data", "onnx/more/data"}
    assert set(external_files(tmp_path, GRAPH, named)) == named - {GRAPH}


@pytest.fixture
def split(tiny_bi_encoder: Path, tmp_path: Path) -> Path:
    """An artifact whose FP32 graph keeps its weights in a file beside it, as one above 2 GB does."""
    folder = Path(shutil.copytree(tiny_bi_encoder, tmp_path / "artifact"))
    model = onnx.load(folder / GRAPH)
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)
    name_files(folder, GRAPH, "onnx/model.onnx_data")
    return folder


def name_files(folder: Path, *names: str) -> None:
    """Have the manifest name files as they are now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in names:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def forget_file(folder: Path, name: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][name]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_weights_beside_a_graph_are_hashed_and_loaded(split: Path) -> None:
    artifact = Artifact.open(split)
    artifact.verify()
    assert onnxruntime.InferenceSession(artifact.graph("fp32")).get_inputs()
    data = bytearray((split / "onnx/model.onnx_data").read_bytes())
    data[len(data) // 2] ^= 1
    (split / "onnx/model.onnx_data").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.onnx_data is damaged"):
        artifact.graph("fp32")


@pytest.mark.parametrize("how", ["beside", "hard link"])
def test_weights_that_no_manifest_names_are_not_loaded(split: Path, how: str) -> None:
    """ONNX Runtime would load them, wherever they come from."""
    forget_file(split, "onnx/model.onnx_data")
    if how == "hard link":
        outside = (split / "onnx/model.onnx_data").rename(split.parent / "outside")
        (split / "onnx/model.onnx_data").hardlink_to(outside)
    assert onnxruntime.InferenceSession(split / GRAPH).get_inputs()
    artifact = Artifact.open(split)
    for refused in (lambda: artifact.graph("fp32"), artifact.verify, lambda: verify_artifact(split)):
        with pytest.raises(ArtifactError, match=r"keeps weights in 'model.onnx_data', which the artifact's manifest"):
            refused()
    assert artifact.graph("int8").is_file()


def test_a_named_file_may_have_another_name_elsewhere(split: Path) -> None:
    """Copies by hard link are common (`cp -l`, stores that keep a file once), and the hash decides."""
    (split.parent / "copy").hardlink_to(split / "onnx/model.onnx_data")
    assert Artifact.open(split).graph("fp32").is_file()


def test_an_engine_with_such_a_graph_does_not_open(split: Path, tmp_path: Path) -> None:
    from tandem.engine.build.indexing import index_corpus

    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "A key opens a lock."}\n')
    forget_file(split, "onnx/model.onnx_data")
    with pytest.raises(ArtifactError, match="nothing vouches for it"):
        index_corpus(tmp_path / "corpus.jsonl", tmp_path / "c", encoder=split)
    name_files(split, "onnx/model.onnx_data")
    index_corpus(tmp_path / "corpus.jsonl", tmp_path / "c", encoder=split)
    with Engine.open(tmp_path / "c", device="cpu", warm_up=False) as engine:
        assert [hit.id for hit in engine.search("lock", rerank=False).hits] == ["a"]
