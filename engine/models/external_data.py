"""Which other files an ONNX graph asks for, read off the graph itself before anything loads it.

A tensor of an ONNX graph may lie in another file (*external data*), and ONNX Runtime reads whatever file the graph
names. This walks the graph's protocol buffer as far as tensors go: some ten fields a node, 10 ms for a hundred MB of
weights, which are passed over. The `onnx` package would read all of them, and an engine does not need it.
"""

from __future__ import annotations

import mmap
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

from ..errors import ArtifactError

# Messages of onnx.proto and the fields by which they hold other messages that may hold a tensor.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_KEY, _VALUE = 1, 2
Span = tuple[int, int]
Buffer = mmap.mmap | bytes


def external_files(folder: Path, graph: str, named: Container[str]) -> list[str]:
    """The files that hold weights of the graph `graph` of an artifact: none, but where it is larger than 2 GB.

    Raises ArtifactError when the graph cannot be read, or asks for a file that is not among the `named` ones of the
    artifact's manifest, wherever that file is.
    """
    names = []
    for location in sorted(locations(folder / graph)):
        name = str(PurePosixPath(graph).parent / location)
        if ".." in PurePosixPath(name).parts or name not in named:
            raise ArtifactError(
                f"{folder / graph} keeps weights in {location!r}, which the artifact's manifest does not name, so "
                "nothing vouches for it; export the model again"
            )
        names.append(name)
    return names


def locations(graph: Path) -> set[str]:
    """Where the graph's external data lies, as it writes that. Raises ArtifactError when it cannot be read."""
    if not graph.stat().st_size:
        raise ArtifactError(f"{graph} is empty; export the model again")
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data))
        except ValueError as error:
            raise ArtifactError(f"{graph} cannot be read as an ONNX graph ({error}); export the model again") from error


def _locations(data: Buffer) -> Iterator[str]:
    waiting = [("Model", (0, len(data)))]
    while waiting:  # not by recursion: a graph may lie in a graph in a graph
        message, span = waiting.pop()
        inside = _INSIDE[message]
        for number, part in _parts(data, span):
            if (kind := inside.get(number)) == "Entry":
                if (location := _location(data, part)) is not None:
                    yield location
            elif kind is not None:
                waiting.append((kind, part))


def _location(data: Buffer, span: Span) -> str | None:
    """The value of an entry of external data whose key is `location`."""
    fields = {number: data[start:stop] for number, (start, stop) in _parts(data, span)}
    return fields.get(_VALUE, b"").decode() if fields.get(_KEY) == b"location" else None


def _parts(data: Buffer, span: Span) -> Iterator[tuple[int, Span]]:
    """Number and place of each field of a message that is bytes, text or a message; raises ValueError on nonsense."""
    place, stop = span
    while place < stop:
        tag, place = _varint(data, place, stop)
        if tag >= 2**32:  # a reader may drop the bits beyond, and see another field than we do
            raise ValueError("a field's number is too large")
        match tag & 7:
            case 0:  # a number
                _, place = _varint(data, place, stop)
            case 1:  # 8 bytes
                place += 8
            case 2:  # any number of bytes
                length, place = _varint(data, place, stop)
                if length > stop - place:
                    raise ValueError("a field is longer than what holds it")
                yield tag >> 3, (place, place + length)
                place += length
            case 5:  # 4 bytes
                place += 4
            case other:
                raise ValueError(f"a field of the unknown type {other}")


def _varint(data: Buffer, place: int, stop: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    number = shift = 0
    while place < stop and shift < 70:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
    raise ValueError("a number does not end")
