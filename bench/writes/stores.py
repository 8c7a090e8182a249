"""Stores that take documents while they are searched, each as its documentation advises; the vectors are given."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...engine.collection import Collection, Document
from ...engine.collection.corpus import of_documents
from ...engine.collection.making import SegmentMaker, maker_for
from ...engine.collection.merge_policy import due
from ...engine.collection.merging import merge
from ...engine.collection.updating import add, delete
from ...engine.engine import Engine
from ...engine.text.tokens import TokenBatch
from ..turns import Unavailable

Floats = npt.NDArray[np.float32]


class LiveStore(Protocol):
    """What is measured: durable and found when a call returns."""

    def add(self, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None: ...

    def delete(self, names: Sequence[str]) -> None: ...

    def search(self, vector: Floats, k: int) -> list[str]: ...

    def close(self) -> None: ...


class Tandem:
    """A collection: besides the vectors it stores token ids and words, and checks what it wrote."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """`folder`: a copy of the engine's collection."""
        self._opened = Collection.open(folder)
        self._vectors = np.empty((0, 0), dtype=np.float32)
        reranker = None if engine.reranker is None else engine.reranker.artifact
        self._maker: SegmentMaker = maker_for(self._opened, self._given, engine.encoder.artifact, reranker)

    def _given(self, batch: TokenBatch) -> Floats:
        """The vectors of the documents that are being added, of which each is one passage, in the encoder's order."""
        taken, self._vectors = self._vectors[: len(batch)], self._vectors[len(batch) :]
        return taken

    def add(self, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        self._vectors = vectors
        documents = [Document(name, "", text) for name, text in zip(names, texts, strict=True)]
        _, self._opened = add(self._opened, of_documents(documents), self._maker)
        self._merge()

    def delete(self, names: Sequence[str]) -> None:
        _, self._opened = delete(self._opened.path, names, before=self._opened)
        self._merge()

    def _merge(self) -> None:
        """As the command line does after each change."""
        if due(self._opened.manifest.segments) is not None:
            merge(self._opened.path)
            self._opened = Collection.open(self._opened.path, before=self._opened)

    def search(self, vector: Floats, k: int) -> list[str]:
        opened = self._opened
        return opened.ids(opened.index.search(vector[None], k)[1][0])

    def close(self) -> None:
        """Nothing is held."""


class LanceDb:
    """A table without an index: LanceDB compares all vectors of so few rows. Adding and deleting are versions."""

    def __init__(self, folder: Path, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        lancedb = _module("lancedb")
        self._table: Any = lancedb.connect(str(folder)).create_table("docs", _rows(names, texts, vectors))

    def add(self, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        self._table.add(_rows(names, texts, vectors))

    def delete(self, names: Sequence[str]) -> None:
        self._table.delete(f"id IN ({', '.join(repr(name) for name in names)})")

    def search(self, vector: Floats, k: int) -> list[str]:
        found = self._table.search(vector).distance_type("dot").limit(k).select(["id"]).to_list()
        return [row["id"] for row in found]

    def close(self) -> None:
        """Nothing is held."""


class Qdrant:
    """Qdrant's local mode: its Python client, vectors in memory, points in a SQLite file."""

    def __init__(self, folder: Path, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        client = _module("qdrant_client")
        self._models = client.models
        self._client: Any = client.QdrantClient(path=str(folder))
        size = vectors.shape[1]
        config = self._models.VectorParams(size=size, distance=self._models.Distance.DOT)
        self._client.create_collection("docs", vectors_config=config)
        self._numbers: dict[str, int] = {}
        self.add(names, texts, vectors)

    def add(self, names: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        payload = [{"id": name, "text": text} for name, text in zip(names, texts, strict=True)]
        batch = self._models.Batch(ids=numbers, vectors=vectors.tolist(), payloads=payload)
        self._client.upsert("docs", batch)

    def delete(self, names: Sequence[str]) -> None:
        points = self._models.PointIdsList(points=[self._numbers[name] for name in names])
        self._client.delete("docs", points)

    def search(self, vector: Floats, k: int) -> list[str]:
        found = self._client.query_points("docs", query=vector.tolist(), limit=k, with_payload=["id"]).points
        return [point.payload["id"] for point in found]

    def close(self) -> None:
        with suppress(Exception):  # a client that is closed twice complains
            self._client.close()


RIVALS: dict[str, Callable[[Path, Sequence[str], Sequence[str], Floats], LiveStore]] = {
    "lancedb": LanceDb, "qdrant local": Qdrant
}  # fmt: skip


def _rows(names: Sequence[str], texts: Sequence[str], vectors: Floats) -> list[dict[str, Any]]:
    return [
        {"id": name, "text": text, "vector": vector} for name, text, vector in zip(names, texts, vectors, strict=True)
    ]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed: pip install {name.replace('_', '-')}") from error
