"""What words bring to recall: what vectors, words and both find of the judged documents, and what words cost.

The cost at sizes that no collection at hand has is measured on made-up texts, whose words follow Zipf's law without its
head, as texts without stop words do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ...engine import Engine
from ...engine.recall import LexicalIndex
from ...engine.recall.lexical_index import LexicalWriter
from ...engine.recall.neighbour_sample import DEPTH
from ..document import Row, Table, grid
from ..quality.evaluate import measure
from ..setup import Setup
from ..stats import percentiles
from ..turns import ms_of

VOCABULARY, HEAD = 300_000, 100
SHORTEST, LONGEST = 20, 110
"""Words of a made-up passage, stop words not among them."""
ASKED = 8
"""Words of a made-up question."""
BLOCK = 2000


def found(setup: Setup, sample: int) -> list[Row]:
    """A row for vectors, words and both: the share of judged documents among the 100 first, and milliseconds of a
    question; none where the collection has no words."""
    engine, index = setup.engine, setup.engine.words
    if index is None or index.language == "other":
        return []
    names = setup.workload.question_ids(sample, setup.seed)
    texts = {name: setup.workload.judged.queries[name] for name in names}
    vectors = dict(zip(names, engine.embed(list(texts.values()), "query"), strict=True))
    lists: dict[str, Callable[[str], np.ndarray]] = {
        "vectors": lambda name: engine.collection.index.search(vectors[name][None], DEPTH)[1][0],
        "words": lambda name: index.search(texts[name], DEPTH)[0],
        "both, with encoding": lambda name: engine.recall(texts[name], top_k=1, candidates=DEPTH).rows,
    }
    return [_row(setup, engine, names, name, search) for name, search in lists.items()]


def _row(setup: Setup, engine: Engine, names: list[str], told: str, search: Callable[[str], np.ndarray]) -> Row:
    search(names[0])
    run: dict[str, list[str]] = {}

    def ask(name: str) -> None:
        run[name] = list(dict.fromkeys(engine.collection.documents(search(name))))

    ms = [ms_of(partial(ask, name)) for name in names]
    share = measure({name: setup.workload.judged.qrels[name] for name in names}, run)[f"recall@{DEPTH}"]
    return {
        "passages": len(engine.collection), "list": told, f"recall@{DEPTH}": round(share, 4), **_times(ms),
        "build s": None,
    }  # fmt: skip


def made_up(size: int, folder: Path, sample: int, seed: int) -> Row:
    """What words take among `size` made-up passages, written into `folder`."""
    start = time.perf_counter()
    writer = LexicalWriter(folder, "english", size)
    for text in _texts(size, np.random.default_rng(seed)):
        writer.append(text)
    writer.close()
    seconds = time.perf_counter() - start
    index = LexicalIndex.open([folder], "english")
    random = np.random.default_rng(seed + 1)
    questions = [" ".join(_words(random, ASKED)) for _ in range(sample)]
    ms = [ms_of(partial(index.search, question, DEPTH)) for question in questions]
    return {
        "passages": size,
        "list": "words, made up",
        f"recall@{DEPTH}": None,
        **_times(ms),
        "build s": round(seconds, 1),
    }


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    notes = [
        f"made-up questions have {ASKED} words; times are of one thread, and but for the last list without encoding"
    ]
    return grid("Recall by vectors, by words and by both", rows, notes)


def _times(ms: list[float]) -> Row:
    return {name: value for name, value in percentiles(ms).items() if name in ("p50 ms", "p95 ms")}


def _texts(size: int, random: np.random.Generator) -> Iterator[str]:
    for start in range(0, size, BLOCK):
        lengths = random.integers(SHORTEST, LONGEST, min(BLOCK, size - start))
        words = iter(_words(random, int(lengths.sum())))
        for length in lengths:
            yield " ".join(next(words) for _ in range(length))


def _words(random: np.random.Generator, count: int) -> list[str]:
    """Drawn by rank r with a probability of about 1 / (r + HEAD)."""
    ranks = HEAD * ((1 + VOCABULARY / HEAD) ** random.random(count) - 1)
    return [f"w{rank}" for rank in ranks.astype(np.int64).tolist()]
