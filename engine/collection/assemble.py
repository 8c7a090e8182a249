"""Passages and their vectors → the files of a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import recall
from ..errors import CollectionError, CorpusError
from ..models.artifact import FileRecord
from ..platform.durable_io import sha256
from ..platform.npy import Array, ArrayWriter, open_array
from ..recall.exact import Floats
from ..recall.index import VECTORS
from ..recall.planning import IndexPlan, Similarity
from ..text.tokenizer import Tokenizer
from ..text.tokens import TokenBatch, cumulative, pack
from .collection import Collection, open_version
from .document import HASH
from .manifest import CollectionManifest, numbered
from .metadata_index import MetadataIndex
from .passage_text import token_dtype
from .prepare import STORES
from .ragged import Ragged, RaggedWriter
from .report import Progress
from .segment import CONTENTS, ORDER, PLACES
from .token_files import TOKENS, TokenWriter

SAMPLE_QUERIES = 256
WINDOW = 12
"""Tokens of a sample query: a question's length, taken out of a passage."""
CHECKED = 8
"""Passages that must find themselves before a version is published."""
SEED = 20_071
SAME_ID = "two passages have the id {name!r}: rename the document whose id ends like a chunk's"


def arrays(
    folder: Path, parts: Iterable[Mapping[str, Array]], vocabulary: int | None, total: int, progress: Progress
) -> None:
    """Lay the arrays of all `parts` (see `Passages.arrays`) end to end in `folder`.

    vocabulary: token ids are below it; None: there are none. total: passages, for the progress.
    """
    ragged = {name: RaggedWriter(folder / name, np.uint8) for name in STORES}
    flat = {
        "places": ArrayWriter(folder / PLACES, np.int64, (3,)),
        "contents": ArrayWriter(folder / CONTENTS, np.uint8, (HASH,)),
    }
    tokens: TokenWriter | None = None
    writers: list[ArrayWriter | RaggedWriter | TokenWriter] = [*ragged.values(), *flat.values()]
    done = 0
    try:
        for part in parts:
            if "vectors" not in flat:
                flat["vectors"] = ArrayWriter(folder / VECTORS, np.float32, part["vectors"].shape[1:])
                writers.append(flat["vectors"])
                if vocabulary is not None:
                    tokens = TokenWriter(folder, token_dtype(vocabulary), vocabulary)
                    writers.append(tokens)
            if tokens is not None:
                tokens.append(TokenBatch(part[TOKENS].astype(np.int32), cumulative(part[f"{TOKENS}.lengths"])))
            for name, store in ragged.items():
                store.append(part[name], part[f"{name}.lengths"])
            for name, array in flat.items():
                array.append(part[name])
            done += len(part["places"])
            progress(done, total, "putting together")
        for writer in writers:
            writer.close()
    finally:
        for writer in writers:
            writer.abandon()
    _write_order(folder)
    MetadataIndex.of(Ragged.open(folder / "metadata", np.uint8)).write(folder)


def index(
    folder: Path,
    beside: int,
    sample: Callable[[], Floats],
    similarity: Similarity,
    threads: int | None,
    progress: Progress,
) -> IndexPlan:
    """Plan, build and measure the index over the folder's vectors.

    beside: passages of the other segments; sample: gives queries to measure it by
    """
    vectors = open_array(folder / VECTORS, np.float32, 2)
    rows, dimension = vectors.shape
    plan = recall.plan(rows, dimension, beside)
    queries = np.empty((0, dimension), dtype=np.float32) if plan.kind == "flat" else sample()
    return recall.build(folder, plan, queries, similarity=similarity, threads=threads, progress=progress)


def file_records(files: Iterable[Path], progress: Progress) -> dict[str, FileRecord]:
    """sha256 and size of each of a version's files, by its name."""
    progress(0, None, "hashing")
    return {file.name: FileRecord(sha256=sha256(file), size=file.stat().st_size) for file in files}


def next_version(current: CollectionManifest | None, key: str) -> str:
    """`000001-<start of the key>`, counted on from the current version."""
    return f"{int(numbered(current.version if current else None)) + 1:06d}-{key[:12]}"


def check(folder: Path, before: Collection | None = None) -> Collection:
    """Open a version as a reader would and let some passages find themselves; raises CollectionError.

    before: the version that it was made of, open. What both share was checked when it was new, and an index is for one
    thread at a time: an engine may be searching it.
    """
    version = open_version(folder, before=before)
    shared = [] if before is None else [segment.index for segment in before.segments]
    for index in (segment.index for segment in version.segments if segment.index not in shared):
        rows = np.linspace(0, len(index) - 1, min(CHECKED, len(index))).astype(np.int64)
        vectors = index.vectors[rows]
        scores, _ = index.search(vectors, 1)
        own = (vectors * vectors).sum(axis=1)
        if (scores[:, 0] < own - 1e-3 * np.maximum(1.0, own)).any():
            raise CollectionError(f"{folder} does not find its own passages; index again, and report this as a fault")
    return version


def _write_order(folder: Path) -> None:
    """Rows in the order of their ids' bytes, for lookups by id; raises CorpusError when an id occurs twice."""
    ids = Ragged.open(folder / "ids", np.uint8)
    names = [ids[row].tobytes() for row in range(len(ids))]
    order = sorted(range(len(names)), key=names.__getitem__)
    for before, after in pairwise(order):
        if names[before] == names[after]:
            # Only a document that is called like another's chunk gets here; the corpus reader refuses the rest.
            raise CorpusError(SAME_ID.format(name=names[after].decode()))
    writer = ArrayWriter(folder / ORDER, np.int64)
    writer.append(np.array(order, dtype=np.int64))
    writer.close()


def sample_queries(folder: Path, tokenizer: Tokenizer) -> TokenBatch:
    """Runs of a dozen tokens out of passages drawn at random: as short and as vague as questions are.

    With all-MiniLM-L6-v2 over a million vectors, reading 32, 64, 128 of 2,048 clusters found .993, .998, 1.000 of the
    exact 100 for such runs, and .994, .997, 1.000 for people's questions; passages used as queries found all with 4.
    """
    texts = Ragged.open(folder / "texts", np.uint8)
    random = np.random.default_rng(SEED)
    rows = random.choice(len(texts), min(SAMPLE_QUERIES, len(texts)), replace=False)
    tokens = tokenizer.encode_many(texts.strings(rows))
    starts = random.integers(0, np.maximum(tokens.lengths - WINDOW, 0) + 1)
    return pack([tokens[row][start : start + WINDOW] for row, start in enumerate(starts)])
