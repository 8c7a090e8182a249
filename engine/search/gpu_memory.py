"""What an engine takes of a GPU's memory, worked out before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..collection import Collection
from ..errors import DeviceError, OutOfMemory
from ..models.memory import Chosen
from ..platform import cuda_driver
from ..platform.device import Device
from ..recall.gpu_planning import GpuPlan, plan_gpu
from .model_pool import ANY_MODEL

GIB = 2**30
# The driver's context, cuBLAS's workspace and loaded kernels: what `nvidia-smi` shows of an idle PyTorch process.
CONTEXT = 700 * 2**20
# Captured graphs: inputs, pairs and temporaries of a hundred, some MB each.
GRAPHS = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on the device: its bytes, and what would make it smaller (empty: nothing).

    shared: of a model its fingerprint, since others may use it too, and it is there as long as one does; else empty
    """

    what: str
    nbytes: int
    shrink: str
    shared: str = ""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Everything an engine will put on the device.

    available, capacity: bytes that are free and that the card has (see `available_memory`); None where there is no GPU
                         to ask
    """

    items: tuple[Item, ...]
    recall: GpuPlan | str
    available: int | None
    capacity: int | None

    @property
    def total(self) -> int:
        return sum(item.nbytes for item in self.items)

    @property
    def own(self) -> int:
        """Bytes of what nobody else uses."""
        return sum(item.nbytes for item in self.items if not item.shared)

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of each model that is not on the device yet, by its fingerprint, and of the context where none is."""
        found: dict[str, int] = {}
        for item in self.items:
            if item.shared:
                found[item.shared] = found.get(item.shared, 0) + item.nbytes
        return found

    @property
    def problem(self) -> str | None:
        """Why it does not fit, naming what to shrink; None when it does or nothing is known of the memory.

        Where neither our kernels nor FAISS run there, recall stays on the host and takes nothing of the card.
        """
        if self.available is None or self.total <= self.available:
            return None
        why = f"; {self.recall}" if isinstance(self.recall, str) else ""
        return (
            f"the engine needs {self.total / GIB:.2f} GiB of GPU memory and {self.available / GIB:.2f} GiB are there"
            f"{why}{self._others}; {self.advice}"
        )

    @property
    def _others(self) -> str:
        """Who else has the memory, where the card alone would suffice; else nothing."""
        if self.available is None or self.capacity is None or not self.available < self.total <= self.capacity:
            return ""
        return (
            f": {(self.capacity - self.available) / GIB:.2f} GiB of the card are taken by others, perhaps by the "
            "version being served, so restart, or set gpu_memory_gib to at most half the card, so that two versions fit"
        )

    @property
    def advice(self) -> str:
        """What to shrink: the largest part that can be."""
        largest = max((item for item in self.items if item.shrink), key=lambda item: item.nbytes)
        return f"the largest part is {largest.what} with {largest.nbytes / GIB:.2f} GiB: {largest.shrink}"

    @contextmanager
    def advising(self) -> Iterator[None]:
        """Whoever runs out of memory in here is told what to shrink: the plan was wrong, or others took memory."""
        try:
            yield
        except OutOfMemory as error:
            raise OutOfMemory(f"{error}; {self.advice}") from error

    def check(self) -> None:
        """Raise DeviceError when it does not fit."""
        if (problem := self.problem) is not None:
            raise DeviceError(problem)

    def to_dict(self) -> dict[str, Any]:
        """For `tandem info`."""
        gib = {item.what: round(item.nbytes / GIB, 3) for item in self.items}
        recall = self.recall if isinstance(self.recall, str) else f"{self.recall.kind}: {self.recall.reason}"
        available = None if self.available is None else round(self.available / GIB, 3)
        return {
            "recall": recall,
            "gib": gib,
            "total_gib": round(self.total / GIB, 3),
            "available_gib": available,
            "fits": None if available is None else self.problem is None,
            "problem": self.problem,
        }


def plan(
    collection: Collection,
    encoder: Chosen,
    reranker: Chosen | None,
    *,
    available: int | None,
    capacity: int | None = None,
    stored: bool = True,
    loaded: frozenset[str] = frozenset(),
    kernels: bool = True,
    faiss: bool = True,
) -> MemoryPlan:
    """The plan for a collection with its models. `stored`: the collection's token ids are this reranker's, so that they
    may lie there too. `loaded`: fingerprints of the models that are on the device already, and take nothing more.
    `kernels`, `faiss`: what can run recall there (see `plan_gpu`). FAISS's indexes there hold one segment of which
    nothing is deleted.

    The vectors take the form that is best for `capacity` (None: that is `available`), whoever has a part of it at the
    moment: a new version that opens beside the one being served takes the same form, or is refused.
    """
    capacity = available if capacity is None else capacity
    named = {"encoder": encoder, "reranker": reranker}
    items = _models({what: model for what, model in named.items() if model is not None}, loaded)
    if reranker is not None and stored:
        stored_bytes = sum(part.data.nbytes + part.offsets.nbytes for part in collection.token_parts())
        items.append(Item("the token store", stored_bytes, "index again with smaller --chunk-tokens"))
    rows, dimension = collection.rows, collection.manifest.dimension
    faiss = faiss and len(collection.segments) == 1 and collection.live is None
    room = None if capacity is None else max(0, capacity - sum(item.nbytes for item in items))
    recall = plan_gpu(rows, dimension, room, kernels=kernels, faiss=faiss)
    wanted = plan_gpu(rows, dimension, None, kernels=kernels, faiss=faiss) if isinstance(recall, str) else recall
    if not isinstance(wanted, str):
        shrink = "use an encoder with fewer dimensions, split the collection, or use a larger card"
        items.append(Item(f"vectors ({wanted.kind})", wanted.nbytes, shrink))
        scratch = wanted.scratch or scan_scratch(rows)
        items.append(Item("recall's scratch memory", scratch, ""))
    return MemoryPlan(tuple(items), recall, available, capacity)


def plan_model(model: Chosen, *, available: int | None, loaded: frozenset[str]) -> MemoryPlan:
    """The plan for a model by itself (see `plan`)."""
    items = _models({"model": model}, loaded)
    return MemoryPlan(tuple(items), "there is nothing to recall", available, available)


def scan_scratch(rows: int) -> int:
    """Bytes of the workspace of our scan over `rows` vectors, for 64 queries and 256 neighbours (`kernels.scan`).

    A score for each group of 64 rows, the rows of the 256 best groups, and twice what selecting among either in chunks
    of 2,048 leaves.
    """
    groups = -(-rows // 64)
    chunks = -(-max(groups, 256 * 64) // 2048)
    return 64 * (4 * groups + 8 * 256 * 64 + 2 * 8 * 256 * chunks)


def available_memory(device: Device, gib: float | None) -> tuple[int, int] | tuple[None, None]:
    """Bytes that are free to plan with, and bytes that nobody else can take for long: `gib` for both where given.

    Else nearly all that the card has, and as much of that as is free now; None without a card.
    """
    if gib is not None:
        return int(gib * GIB), int(gib * GIB)
    if device.kind != "cuda" or isinstance(card := cuda_driver.find(), str):
        return None, None
    capacity = int(card.memory * 0.95)
    free = cuda_driver.free_memory()
    return capacity if free is None else min(free, capacity), capacity


def _models(models: Mapping[str, Chosen], loaded: frozenset[str]) -> list[Item]:
    """What any engine needs, and its `models` by what they are called."""
    items = [] if loaded else [Item("the CUDA context", CONTEXT, "", shared=ANY_MODEL)]
    items.append(Item("CUDA graphs", GRAPHS, ""))
    for what, model in models.items():
        if model.artifact.fingerprint not in loaded:
            items += _model(what, model)
    return items


def _model(what: str, model: Chosen) -> list[Item]:
    weights, activations = model.nbytes
    shared = model.artifact.fingerprint
    return [
        Item(f"the {what}'s weights", weights, f"use a smaller {what}", shared),
        Item(f"the {what}'s activations ({model.choice.runtime})", activations, f"use a narrower {what}", shared),
    ]
