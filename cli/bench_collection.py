"""The benchmarks on a collection with questions; each gets an `Opener` and its own options (see `benching`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import typer

from ..engine.models.artifact import Precision
from .benching import CANDIDATES, PRECISION, Measured, Opener, on_a_collection
from .console import note


@on_a_collection(rivals=True)
def latency(
    opener: Opener,
    sample: int = typer.Option(20, min=1, help="Questions to ask, drawn with --seed."),
    candidates: int = CANDIDATES,
    budget_ms: float = typer.Option(250.0, help="The budget that the budgeted searches must keep."),
    precision: str = PRECISION,
) -> Iterator[Measured]:
    """One query at a time: each stage against the budget, the floor, and rivals with the same weights and texts.

    Because one person waits for one answer: recall has 20 ms and the whole 250. All systems answer the same questions
    in turns and rerank the same passages, so a ratio says what the engine is worth, and the floor what is left to win.
    """
    from ..bench.latency import latency
    from ..bench.workloads import in_fp32

    with (
        opener.opened(reranker_precision=precision) as setup,
        in_fp32(setup.engine, setup.workload, threads=opener.threads) as plain,
    ):
        document = latency(setup, sample=sample, candidates=candidates, plain=plain, budget_ms=budget_ms)
    yield document, [opener.workload.name]


@on_a_collection(rivals=True)
def throughput(
    opener: Opener,
    sample: int = typer.Option(16, min=1, help="Questions asked in each round, drawn with --seed."),
    candidates: int = CANDIDATES,
    callers: list[int] = typer.Option([1, 4, 16], help="Threads that ask at once; repeat for several."),
    repeats: int = typer.Option(3, min=1, help="Rounds."),
    precision: str = PRECISION,
) -> Iterator[Measured]:
    """Queries a second with many callers at once and every candidate reranked, beside rivals and the floor.

    Because a server is asked by many: Tandem shares micro-batches between callers, which libraries called one request
    after the other cannot.
    """
    from ..bench.throughput import throughput

    with opener.opened(reranker_precision=precision) as setup:
        document = throughput(setup, sample=sample, candidates=candidates, callers=callers, repeats=repeats)
    yield document, [opener.workload.name]


@on_a_collection()
def quality(
    opener: Opener,
    sample: int = typer.Option(100, min=1, help="Questions to ask, drawn with --seed."),
    candidates: list[int] = typer.Option([10, 20, 50, 100, 200], help="Passages to rerank; repeat for several."),
    budget_ms: list[float] = typer.Option([20, 50, 100, 150, 200, 250], help="Budgets to run; repeat for several."),
    precision: list[str] = typer.Option(["int8"], help="Of the cross-encoder; repeat for several."),
    tokens: list[int] = typer.Option([], help="Also cut pairs to so many tokens, in the first precision."),
    timed: int = typer.Option(10, min=1, help="Questions that candidate counts are timed on."),
) -> Iterator[Measured]:
    """Accuracy of recall, reranking and fusion against milliseconds: counts, lengths, precisions, budgets, BM25.

    Because time is spent to answer better: the curve tells what each millisecond buys. Logits of the deepest list are
    reused for smaller counts; budgets are really run. BM25 is the baseline without a model.
    """
    from ..bench.quality.accuracy_latency import accuracy_latency

    chosen = [cast(Precision, name) for name in precision]  # an artifact without it says so
    with opener.opened(reranker_precision=chosen[0]) as setup:
        document = accuracy_latency(
            setup, sample=sample, counts=candidates, budgets=budget_ms, precisions=chosen, lengths=tokens, timed=timed
        )
    yield document, [opener.workload.name, *(precision if precision != ["int8"] else [])]


@on_a_collection()
def writes(
    opener: Opener,
    singles: int = typer.Option(40, min=1, help="Documents added one by one, and deleted so."),
    batches: int = typer.Option(10, min=1, help="Batches that are added."),
    size: int = typer.Option(100, min=1, help="Documents of a batch."),
    scratch: Path | None = typer.Option(None, help="Where the stores are written (default: the temp folder)."),
) -> Iterator[Measured]:
    """Documents that come and go while somebody searches: until they are durable and found, and what searches notice.

    Because notes, tickets and pages change all day. LanceDB and Qdrant's local mode take part where they are installed.
    """
    from ..bench.writes.benchmark import writes

    with opener.opened(warm_up=False) as setup:
        document = writes(setup, singles=singles, batches=batches, size=size, scratch=scratch)
    yield document, [opener.workload.name]


@on_a_collection()
def recall(
    opener: Opener,
    rows: list[int] = typer.Option([100_000], help="Vectors; repeat for several, such as 1000000 and 10000000."),
    sample: int = typer.Option(100, min=1, help="Questions to measure with, drawn with --seed."),
    rival: list[str] = typer.Option(
        None, help="faiss flat, faiss ivf, faiss hnsw, hnswlib, usearch (default: all), or none."
    ),
    graphs_up_to: int = typer.Option(200_000, help="Most vectors that a graph is built over: minutes on two cores."),
    scratch: Path | None = typer.Option(None, help="Where vectors are written: 2 kB each (default: the temp folder)."),
) -> Iterator[Measured]:
    """The 100 nearest of n vectors for one query: time, recall against exact search, building, beside other indexes.

    Because recall has 20 ms whatever the corpus grows to, and a passage that it misses is lost for the reranker.
    Vectors lie around the collection's own; 10,000,000 take 21 GB of disk, and are left out where they do not fit.
    """
    from ..bench.recall.benchmark import recall
    from ..bench.recall.other_indexes import chosen

    wanted = chosen(rival)
    with opener.opened(warm_up=False) as setup:
        for document in recall(
            setup, sizes=rows, sample=sample, rivals=wanted, graphs_up_to=graphs_up_to, scratch=scratch
        ):
            yield document, [opener.workload.name, *map(str, rows)]


@on_a_collection(rivals=True)
def index(
    opener: Opener,
    passages: int = typer.Option(500, min=1, help="Passages to encode and index, drawn with --seed."),
    repeats: int = typer.Option(3, min=1, help="Times that every system encodes them."),
    scratch: Path | None = typer.Option(None, help="Where the collection is written (default: the temp folder)."),
) -> Iterator[Measured]:
    """Passages a second from texts to a published collection, and of the encoder alone, beside rivals and the floor.

    Because a corpus is indexed whole before the first question, and again when it changes.
    """
    from ..bench.indexing import indexing

    with opener.opened(warm_up=False) as setup:
        document = indexing(setup, passages=passages, repeats=repeats, scratch=scratch)
    yield document, [opener.workload.name]


@on_a_collection(rivals=True)
def rivals(
    opener: Opener,
    install: bool = typer.Option(False, "--install", help="First make the environments that rivals need."),
    sample: int = typer.Option(3, min=1, help="Questions to compare on, drawn with --seed."),
    candidates: int = typer.Option(20, min=2, help="Passages a question."),
) -> Iterator[Measured]:
    """Which rivals run here, and whether their scores order the same pairs as ours: before any speed is compared.

    Because a rival that reads other text or other segments is not slower or faster, it does something else. What cannot
    run here is listed with its reason.
    """
    from ..bench.agreement import agreement
    from ..bench.rivals.environments import install_for

    everybody = replace(opener, rival=opener.rival or ["all"])
    absent = install_for(everybody.rivals(), opener.environments, tell=note) if install else {}
    with everybody.opened(warm_up=False) as setup:
        document = agreement(setup, sample=sample, candidates=candidates, absent=absent)
    yield document, []


@on_a_collection()
def serve(
    opener: Opener,
    sample: int = typer.Option(200, min=1, help="Questions to ask in turn, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages that each search reranks."),
    seconds: float = typer.Option(30.0, min=1.0, max=600.0, help="Length of each load."),
    deadline_ms: float = typer.Option(10_000.0, min=1.0, help="Each search's deadline."),
    short_deadline_ms: float = typer.Option(1_000.0, min=1.0, help="Each short rerank's deadline."),
    multiples: str = typer.Option("1,2,5", help="Loads, as multiples of the measured capacity."),
    workers: int | None = typer.Option(None, min=1, help="Worker processes (default: as `tandem serve` has it)."),
    supervise: bool = typer.Option(True, help="With the engine in a worker process, as `tandem serve` has it."),
) -> Iterator[Measured]:
    """Start a server, find its capacity, offer 1, 2 and 5 times as much: goodput, times, memory, what HTTP adds.

    Because a server is chosen by what it does when too much is asked of it.
    """
    from ..bench.serving.overload import read_multiples
    from ..bench.serving.server_load import serve_bench

    loads = read_multiples(multiples)
    settings: dict[str, Any] = {"supervise": supervise, "workers": workers}
    if opener.threads is not None:
        settings["threads"] = opener.threads
    document = serve_bench(
        opener.workload, sample=sample, candidates=candidates, seconds=seconds, deadline_ms=deadline_ms,
        short_deadline_ms=short_deadline_ms, multiples=loads, seed=opener.seed, settings=settings,
        progress=opener.progress,
    )  # fmt: skip
    yield document, [opener.workload.name]


COMMANDS: dict[str, Callable[..., None]] = {
    "index": index, "latency": latency, "quality": quality, "recall": recall, "rivals": rivals, "serve": serve,
    "throughput": throughput, "writes": writes,
}  # fmt: skip
