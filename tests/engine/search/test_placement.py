"""Where recall and the pipeline run, with a card that is pretended: what would go up stays on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.build.indexing import index_corpus  # noqa: E402
from tandem.engine.collection import Collection  # noqa: E402
from tandem.engine.config import EngineSettings  # noqa: E402
from tandem.engine.errors import CollectionError, DeviceError, InputError  # noqa: E402
from tandem.engine.gpu_search import device_index as indexes  # noqa: E402
from tandem.engine.gpu_search import device_store  # noqa: E402
from tandem.engine.gpu_search.device_index import DeviceIndex  # noqa: E402
from tandem.engine.models.artifact import Artifact  # noqa: E402
from tandem.engine.models.cross_encoder import CrossEncoder  # noqa: E402
from tandem.engine.models.encoder import BiEncoder  # noqa: E402
from tandem.engine.platform import cuda_driver  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402
from tandem.engine.recall import Filtered, IndexPlan, RowMask, planning  # noqa: E402
from tandem.engine.recall.gpu_faiss import GpuFaiss  # noqa: E402
from tandem.engine.recall.gpu_planning import GpuPlan  # noqa: E402
from tandem.engine.scoring.fusion import Fusion  # noqa: E402
from tandem.engine.search import placement  # noqa: E402
from tandem.engine.search.gpu_memory import Item, MemoryPlan  # noqa: E402
from tandem.engine.search.placement import Placed, place, plan_memory  # noqa: E402

from ..pretended import GIB, card, faiss_on_cpu  # noqa: E402

CUDA = Device("cuda", "a test", 1)
CPU = Device("cpu", "a test", 1)
SCAN = GpuPlan(kind="scan", reason="few enough", nbytes=1)
INVERTED = GpuPlan(kind="ivf-flat", reason="too many", nbytes=10**9, lists=4)


@dataclass(frozen=True)
class Parts:
    collection: Collection
    encoder: BiEncoder
    reranker: CrossEncoder

    def place(
        self, recall: GpuPlan | str | None, *, reranker: bool = True, unstored: str | None = None, **settings: Any
    ) -> Placed:
        memory = None if recall is None else MemoryPlan((Item("all", 1, "use less"),), recall, None, None)
        cross = self.reranker if reranker else None
        return place(
            self.collection, self.encoder, cross, CUDA, EngineSettings(**settings), memory, Fusion(), unstored=unstored
        )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path) -> Parts:
    """A collection with a scan's codes, and so with a sample; both models packed, on the CPU."""
    folder = tmp_path_factory.mktemp("placing") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "FLAT_BYTES", 0)
        index_corpus("python:json", folder, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    encoder = BiEncoder(Artifact.open(packable_bi_encoder), CPU, runtime="packed")
    return Parts(
        Collection.open(folder), encoder, CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    )


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where vectors were to go; they go to the CPU."""
    devices: list[str] = []
    upload = device_store.upload_vectors

    def pretended(collection: Collection, device: str) -> torch.Tensor:
        devices.append(device)
        return upload(collection, "cpu")

    monkeypatch.setattr(device_store, "upload_vectors", pretended)
    return devices


def nearest(index: Any, parts: Parts) -> np.ndarray:
    """The row that each of the first three passages finds, which is its own."""
    rows: np.ndarray = index.search(np.array(parts.collection.index.vectors[:3]), 1)[1]
    return rows[:, 0]


def test_stage_by_stage_our_scan_recalls_on_the_card_and_under_filters_too(parts: Parts, uploads: list[str]):
    placed = parts.place(SCAN, pipeline="staged")
    assert uploads == ["cuda"]
    assert placed.pipeline is None
    assert isinstance(placed.index, DeviceIndex)
    assert placed.exact is placed.index
    assert placed.reasons == {"recall": "scan: few enough", "pipeline": "staged: stages were asked for"}
    np.testing.assert_array_equal(nearest(placed.index, parts), nearest(parts.collection.index, parts))
    mask = np.zeros(len(parts.collection), dtype=bool)
    mask[5] = True
    assert nearest(placed.under(RowMask(mask)), parts).tolist() == [5, 5, 5]
    assert not isinstance(placed.under(RowMask(mask)), Filtered)


def test_without_a_reranker_the_scan_recalls_alone(parts: Parts):
    placed = parts.place(SCAN, reranker=False)
    assert isinstance(placed.index, DeviceIndex)
    assert placed.reasons["pipeline"] == "staged: the collection has no reranker"


def test_with_another_tokenizers_ids_on_disk_a_search_goes_stage_by_stage(parts: Parts):
    placed = parts.place(SCAN, unstored="the ids are others")
    assert placed.pipeline is None
    assert isinstance(placed.index, DeviceIndex), "recall is on the device all the same"
    assert placed.reasons["pipeline"] == "staged: the ids are others"
    with pytest.raises(InputError, match="cannot run here: the ids are others; use pipeline=auto"):
        parts.place(SCAN, unstored="the ids are others", pipeline="resident")


def test_a_resident_pipeline_and_a_staged_search_share_the_vectors(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    monkeypatch.setattr(indexes.DeviceIndex, "__init__", lambda self, stored: made.append(stored))
    placed = parts.place(SCAN)
    assert placed.pipeline is not None
    assert placed.index is placed.exact
    assert made == [placed.pipeline.parts.store.vectors]
    assert made[0].shape == parts.collection.index.vectors.shape
    assert placed.reasons["pipeline"] == "resident: a whole search on the device"


@pytest.mark.parametrize("pipeline", ["staged", "auto"])
def test_faiss_recalls_in_place_of_the_scan_and_says_how_well(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, uploads: list[str], pipeline: str
):
    faiss_on_cpu(monkeypatch)
    placed = parts.place(INVERTED, pipeline=pipeline)
    assert isinstance(placed.index, GpuFaiss)
    assert placed.exact is None
    assert uploads == []  # the vectors are in FAISS's hands
    assert (placed.pipeline is None) == (pipeline == "staged")
    if placed.pipeline is not None:
        assert placed.pipeline.parts.store.vectors is None
    depth = min(100, len(parts.collection))
    assert placed.reasons["recall"].startswith(f"ivf-flat: too many; recall@{depth} ")
    assert placed.reasons["recall"].endswith(" at 4 probes")
    np.testing.assert_array_equal(nearest(placed.index, parts), nearest(parts.collection.index, parts))
    # FAISS's GPU indexes ignore filters: the host's index recalls under one.
    mask = np.arange(len(parts.collection)) == 5
    under = placed.under(RowMask(mask))
    assert isinstance(under, Filtered)
    assert nearest(under, parts).tolist() == [5, 5, 5]


def test_recall_that_the_card_has_no_room_for_stays_on_the_host(parts: Parts):
    placed = parts.place("neither runs here")
    assert placed.index is parts.collection.index
    assert (placed.pipeline, placed.exact) == (None, None)
    assert placed.reasons == {"recall": "on the CPU: neither runs here", "pipeline": "staged: neither runs here"}


def test_a_resident_pipeline_that_cannot_be_is_refused(parts: Parts):
    with pytest.raises(InputError, match="cannot run here: the collection has no reranker; use pipeline=auto"):
        parts.place(SCAN, reranker=False, pipeline="resident")


@pytest.mark.parametrize(
    ("kind", "lists", "planned", "probes"),
    [("scan", 0, 256, 0), ("ivf", 64, 256, 24), ("ivf", 64, 80, 8), ("ivf", 64, 32, 6)],
)
def test_without_a_sample_the_same_share_of_the_passages_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, lists: int, planned: int, probes: int
):
    asked: list[int] = []
    monkeypatch.setattr(GpuFaiss, "open", lambda folder, vectors, plan, probes: asked.append(probes))
    built = IndexPlan(kind=kind, reason="a test", lists=lists, probes=6 if lists else 0)  # type: ignore[arg-type]
    segment = SimpleNamespace(record=SimpleNamespace(index=built), folder=tmp_path, index=SimpleNamespace(vectors=None))
    collection: Any = SimpleNamespace(segments=(segment,))
    placement._finder(collection, INVERTED.model_copy(update={"lists": planned}))
    assert asked == [probes]


def test_memory_is_planned_for_a_card_and_checked(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    models = (parts.encoder.artifact, parts.reranker.artifact)
    assert plan_memory(parts.collection, *models, CPU, EngineSettings()) is None
    card(monkeypatch, free=79 * GIB)
    planned = plan_memory(parts.collection, *models, CUDA, EngineSettings())
    assert planned is not None
    assert (planned.available, planned.capacity) == (76 * GIB, 76 * GIB)
    assert isinstance(planned.recall, GpuPlan)
    assert planned.recall.kind == "scan"
    with pytest.raises(DeviceError, match=r"1\.00 GiB are there.*use a "):
        plan_memory(parts.collection, *models, CUDA, EngineSettings(gpu_memory_gib=1))
    card(monkeypatch, free=GIB)
    with pytest.raises(DeviceError, match=r"75\.00 GiB of the card are taken by others"):
        plan_memory(parts.collection, *models, CUDA, EngineSettings())


def test_free_memory_is_asked_of_pytorch_where_it_reaches_the_card(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (123, 456))
    monkeypatch.setattr(cuda_driver, "torch_problem", lambda: None)
    monkeypatch.setattr(cuda_driver, "find", lambda: "the NVIDIA driver finds no GPU")
    assert cuda_driver.free_memory() is None
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Gpu("a card", 456, (9, 0)))
    assert cuda_driver.free_memory() == 123
    monkeypatch.setattr(cuda_driver, "torch_problem", lambda: "triton is not installed")
    assert cuda_driver.free_memory() is None


@pytest.mark.parametrize("name", ["sample.npy", "truth.npy"])
def test_the_sample_belongs_to_the_collections_files(parts: Parts, tmp_path: Path, name: str):
    """It is hashed as the others are, and a damaged or missing one is found as theirs would be."""
    assert {"sample.npy", "truth.npy"} <= set(parts.collection.manifest.segments[0].files)
    copy = tmp_path / "c"
    for file in parts.collection.path.rglob("*"):
        target = copy / file.relative_to(parts.collection.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            target.write_bytes(file.read_bytes())
    Collection.open(copy)
    damaged = next(copy.rglob(name))
    data = bytearray(damaged.read_bytes())
    data[-5] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(CollectionError, match=rf"{name} is damaged: its sha256 is not the manifest's; index again"):
        Collection.open(copy)
    damaged.unlink()
    with pytest.raises(CollectionError, match=rf"{name} is missing; index again"):
        Collection.open(copy)
