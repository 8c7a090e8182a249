"""A search on the device against the search stage by stage. On a CPU both are exact in FP32: the hits are the same."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine import Engine, InferenceError, InputError, SearchResult  # noqa: E402
from tandem.engine.build.indexing import index_corpus  # noqa: E402
from tandem.engine.collection import Collection  # noqa: E402
from tandem.engine.config import EngineSettings  # noqa: E402
from tandem.engine.errors import DeviceError, OutOfMemory  # noqa: E402
from tandem.engine.gpu_search import pipeline as pipelines  # noqa: E402
from tandem.engine.gpu_search.device_index import DeviceIndex  # noqa: E402
from tandem.engine.gpu_search.graphs import Graphs  # noqa: E402
from tandem.engine.gpu_search.open_pipeline import open_pipeline  # noqa: E402
from tandem.engine.gpu_search.pipeline import Pipeline  # noqa: E402
from tandem.engine.gpu_search.queries import Queries  # noqa: E402
from tandem.engine.gpu_search.rerank_step import LONGEST_QUERY  # noqa: E402
from tandem.engine.gpu_search.search_model import terms_of  # noqa: E402
from tandem.engine.models.artifact import PairText  # noqa: E402
from tandem.engine.models.runtime import cuda_graphs  # noqa: E402
from tandem.engine.models.runtime.packed import TokenBucket  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402
from tandem.engine.platform.device_errors import translated  # noqa: E402
from tandem.engine.recall.gpu_faiss import GpuFaiss, build  # noqa: E402
from tandem.engine.recall.gpu_planning import GpuPlan  # noqa: E402
from tandem.engine.scoring.effort import EVERYTHING, REREAD, RerankDepth  # noqa: E402
from tandem.engine.scoring.fusion import Fusion  # noqa: E402
from tandem.engine.search.placement import Placed, pipeline_problem  # noqa: E402
from tandem.engine.text.tokens import pack  # noqa: E402

QUESTIONS = ("how to sort a list of words", "write bytes to a file", "the time zone of a date", "a", "thread lock")


@pytest.fixture(scope="module")
def collection(
    tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path
) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    models = {"encoder": packable_bi_encoder, "reranker": packable_cross_encoder}
    index_corpus("python:json,threading", folder / "c", **models, device="cpu")
    return folder / "c"


@pytest.fixture(scope="module")
def staged(collection: Path) -> Iterator[Engine]:
    with Engine.open(collection, device="cpu", warm_up=False, reranker_precision="fp32", recall_weight=3.0) as opened:
        yield opened


@pytest.fixture(scope="module")
def resident(collection: Path) -> Iterator[Engine]:
    settings: dict[str, Any] = {"runtime": "packed", "pipeline": "resident", "warm_up": False, "recall_weight": 3.0}
    with Engine.open(collection, device="cpu", **settings) as opened:
        yield opened


def pipeline_of(engine: Engine) -> Pipeline:
    assert engine.placed.pipeline is not None
    return engine.placed.pipeline


def queries_of(engine: Engine, questions: tuple[str, ...] = QUESTIONS) -> Queries:
    ids = engine.encoder.tokenizer.encode_many(questions)
    return Queries(engine.encoder.tokenizer.single(ids), ids)


def assert_same_hits(ours: SearchResult, theirs: SearchResult) -> None:
    """The same texts in the same order with the same scores, each with the same recall ranks.

    Not the same ids: documentation repeats itself, and of passages with one text rounding decides which stands first.
    """
    assert [hit.text for hit in ours.hits] == [hit.text for hit in theirs.hits]
    for name in ("score", "recall_score", "rerank_score", "lexical_score"):
        mine, other = ([getattr(hit, name) for hit in result.hits] for result in (ours, theirs))
        np.testing.assert_allclose(mine, other, atol=1e-4)
    assert ranks_by_text(ours) == ranks_by_text(theirs)


def ranks_by_text(result: SearchResult) -> dict[str, list[int]]:
    ranks: dict[str, list[int]] = {}
    for hit in result.hits:
        ranks.setdefault(hit.text, []).append(hit.recall_rank)
    return {text: sorted(each) for text, each in ranks.items()}


@pytest.mark.parametrize(("candidates", "top_k"), [(100, 10), (37, 37), (1, 1), (250, 10)])
def test_hits_are_those_of_the_stages(staged: Engine, resident: Engine, candidates: int, top_k: int):
    for question in QUESTIONS[:3]:
        asked = {"candidates": candidates, "top_k": top_k, "budget_ms": None}
        ours, theirs = resident.search(question, **asked), staged.search(question, depth=EVERYTHING, **asked)
        assert_same_hits(ours, theirs)
        assert (ours.reranked, ours.candidates, ours.degraded) == (theirs.reranked, theirs.candidates, None)


def test_what_does_not_fit_the_pipeline_goes_stage_by_stage(staged: Engine, resident: Engine):
    assert not pipeline_of(resident).takes(257)
    for asked in ({"rerank": False}, {"candidates": 300}):
        ours = resident.search("sort", budget_ms=None, **asked)
        assert [hit.id for hit in ours.hits] == [hit.id for hit in staged.search("sort", budget_ms=None, **asked).hits]
    again = resident.search("sort", budget_ms=None, effort="thorough")
    assert again.reread == REREAD
    assert_same_hits(again, staged.search("sort", budget_ms=None, effort="thorough"))
    few = resident.search("sort", budget_ms=None, depth=RerankDepth(5))
    assert few.reranked == 5
    hurried = resident.search("sort", budget_ms=0.001)
    assert "budget" in (hurried.degraded or "")
    assert hurried.reranked == 0


def test_queries_of_many_callers_share_a_batch_and_get_their_own_answers(resident: Engine):
    expected = {question: [hit.id for hit in resident.search(question, budget_ms=None).hits] for question in QUESTIONS}
    answers: dict[str, list[str]] = {}

    def ask(question: str) -> None:
        answers[question] = [hit.id for hit in resident.search(question, budget_ms=None).hits]

    batches: list[int] = []
    resident.batcher.on_batch = lambda sequences, tokens: batches.append(sequences)
    threads = [threading.Thread(target=ask, args=(question,)) for question in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    resident.batcher.on_batch = None
    assert answers == expected
    assert len(batches) < len(QUESTIONS)


@pytest.fixture
def as_on_a_gpu(resident: Engine, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline with fixed buffers, padded places and steps that are kept, as with CUDA graphs, on the CPU."""

    def captured(forward: Any, pool: Any) -> Any:
        forward()
        return forward

    pipeline = pipeline_of(resident)
    monkeypatch.setattr(cuda_graphs, "captured", captured)
    monkeypatch.setattr(pipeline, "_captures", True)
    for name in ("_recalls", "_reranks", "_wholes"):
        graphs: Any = Graphs(torch.device("cpu"))
        graphs._captures = True
        monkeypatch.setattr(pipeline, name, graphs)
    return pipeline


def same(ours: list[Any], expected: list[Any]) -> bool:
    return all(
        a.rows.tolist() == b.rows.tolist() and np.allclose(a.scores, b.scores, atol=1e-5)
        for a, b in zip(ours, expected, strict=True)
    )


def test_fixed_buffers_give_the_same_hits(resident: Engine, collection: Path, as_on_a_gpu: Pipeline):
    """Alone and together, again and again, so that a buffer that keeps something of an earlier search would show."""
    whole = queries_of(resident)
    lexicon = resident.collection.lexicon
    random = np.random.default_rng(0)
    listed = np.stack([random.permutation(len(resident.collection))[:20] for _ in QUESTIONS])
    listed[:, 15:] = -1
    shares = np.where(listed < 0, 0, random.random(listed.shape)).astype(np.float32)
    whole = Queries(whole.encoder, whole.reranker, terms_of(lexicon, whole.reranker), (listed, shares))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(as_on_a_gpu, "_captures", False)
        for name in ("_recalls", "_reranks"):
            patch.setattr(as_on_a_gpu, name, Graphs(torch.device("cpu")))
        expected = as_on_a_gpu.search(whole, 20, 16)
    for rows in ([0], [1], [0, 1, 2, 3, 4], [3], [4, 2, 0], [0]):
        found = as_on_a_gpu.search(whole.select(np.array(rows)), 20, 16)
        assert same(found, [expected[row] for row in rows])
    assert len(as_on_a_gpu._wholes) <= 3  # one for each size of buffer, not one for each search
    assert len(as_on_a_gpu._recalls) == 2  # for four queries and for eight


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3, 4]])
def test_with_graphs_what_is_beyond_the_guess_runs_again(
    resident: Engine, as_on_a_gpu: Pipeline, monkeypatch: pytest.MonkeyPatch, rows: list[int]
):
    queries = queries_of(resident).select(np.array(rows))
    expected = as_on_a_gpu.search(queries, 20, 16)
    monkeypatch.setattr(Pipeline, "_guess", lambda *arguments: 64)
    assert same(as_on_a_gpu.search(queries, 20, 16), expected)


def test_with_graphs_what_exceeds_every_buffer_is_not_answered(
    resident: Engine, as_on_a_gpu: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        pipelines, "bucket_for", lambda tokens, sequences: None if tokens > 300 else TokenBucket(300, 300)
    )
    monkeypatch.setattr(Pipeline, "_guess", lambda *arguments: 300)
    queries = queries_of(resident)
    assert as_on_a_gpu.search(queries, 20, 16) == [None] * len(QUESTIONS)
    assert as_on_a_gpu.search(queries.select(np.array([0])), 20, 16) == [None]
    assert None not in as_on_a_gpu.search(queries, 2, 2)


def test_a_search_that_exceeds_every_buffer_goes_stage_by_stage(
    staged: Engine, resident: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Pipeline, "search", lambda self, queries, candidates, kept: [None] * len(queries))
    ours, theirs = (engine.search("sort a list", budget_ms=None, effort="quick") for engine in (resident, staged))
    assert ours.reread == theirs.reread > 0
    assert_same_hits(ours, theirs)


def test_a_query_longer_than_the_buffers_of_queries_goes_stage_by_stage(resident: Engine, staged: Engine):
    """None of its tokens is dropped on the way: in a pair the longer text is cut first."""
    query = "how to sort a list of words " * (LONGEST_QUERY // 4)
    assert len(resident.reranker.tokenizer.encode(query)) > LONGEST_QUERY
    assert_same_hits(resident.search(query, budget_ms=None), staged.search(query, budget_ms=None))


def test_an_inverted_file_stands_before_the_rerank(resident: Engine, staged: Engine):
    """FAISS's index, here on the CPU and reading every cluster, in the place of the scan."""
    vectors = resident.collection.index.vectors
    plan = GpuPlan(kind="ivf-flat", reason="a test", nbytes=0, lists=4)
    index = build(vectors, plan, on_gpu=False)
    index.nprobe = 4
    parts = pipeline_of(resident).parts
    without = replace(parts, store=replace(parts.store, vectors=None))
    found = Pipeline(without, GpuFaiss(index, vectors, plan)).search(queries_of(resident), 30, 10)
    expected = pipeline_of(resident).search(queries_of(resident), 30, 10)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        assert theirs is not None
        mine, other = (Counter(resident.collection.texts(found.rows)) for found in (ours, theirs))
        assert (mine & other).total() >= 9  # half precision swaps neighbours at the edge


def test_pairs_beyond_the_guess_are_reranked_again_in_a_larger_buffer(
    resident: Engine, monkeypatch: pytest.MonkeyPatch
):
    pipeline, queries = pipeline_of(resident), queries_of(resident)
    expected = pipeline.search(queries, 20, 16)
    monkeypatch.setattr(Pipeline, "_guess", lambda *arguments: 64)
    for ours, whole in zip(pipeline.search(queries, 20, 16), expected, strict=True):
        assert ours is not None
        assert whole is not None
        assert ours.rows.tolist() == whole.rows.tolist()


def test_groups_are_cut_where_the_largest_buffer_ends(resident: Engine, monkeypatch: pytest.MonkeyPatch):
    pipeline, queries = pipeline_of(resident), queries_of(resident)
    expected = pipeline.search(queries, 20, 16)
    monkeypatch.setattr(pipelines, "BUCKETS", (TokenBucket(1 << 11, 64),))
    monkeypatch.setattr(pipeline, "_captures", True)
    groups = list(pipeline._groups(queries, 20))
    monkeypatch.setattr(pipeline, "_captures", False)
    assert np.concatenate(groups).tolist() == list(range(len(queries)))
    assert len(groups) > 1
    monkeypatch.setattr(pipeline, "_groups", lambda *arguments: iter(groups))
    for ours, whole in zip(pipeline.search(queries, 20, 16), expected, strict=True):
        assert ours is not None
        assert whole is not None
        np.testing.assert_array_equal(ours.rows, whole.rows)


def test_the_guess_covers_nearly_every_search(resident: Engine):
    """Three standard deviations: the pairs of random candidates need more in about one of a thousand searches."""
    pipeline = pipeline_of(resident)
    random = np.random.default_rng(0)
    lengths = np.diff(pipeline.parts.store.tokens.offsets.numpy())
    query = np.array([12])
    expected = pipeline._expected(query, 100)[0]
    form = pipeline.parts.form
    needed = [(sum(form.parts) + np.minimum(12 + random.choice(lengths, 100), form.room)).sum() for _ in range(1000)]
    assert np.mean(np.array(needed) > expected) < 0.01


def test_a_vector_that_is_not_finite_fails_its_query_alone(resident: Engine, monkeypatch: pytest.MonkeyPatch):
    encoder = pipeline_of(resident).parts.encoder
    run = type(encoder).run

    def broken(self: Any, *arguments: Any, **settings: Any) -> torch.Tensor:
        outputs = run(self, *arguments, **settings)
        if self is encoder:
            outputs[0] = torch.nan
        return outputs

    monkeypatch.setattr(type(encoder), "run", broken)
    from tandem.engine.gpu_search.search_model import GpuSearch, joined
    from tandem.engine.text.tokens import concatenate

    ids = [resident.encoder.tokenizer.encode(question) for question in QUESTIONS[:2]]
    framed = [resident.encoder.tokenizer.single(pack([each])).ids for each in ids]
    search = GpuSearch(pipeline_of(resident), 10, 10)
    bad, good = search.run(concatenate([joined(a, b, b) for a, b in zip(framed, ids, strict=True)]))
    assert isinstance(bad, InferenceError)
    assert not isinstance(good, Exception)


def test_the_choices_are_told(resident: Engine, staged: Engine):
    assert resident.choices["pipeline"].startswith("resident")
    assert resident.choices["reranker"].startswith("packed fp32")
    assert staged.choices["pipeline"] == "staged: on a CPU the stages are the fast way"


def test_a_pipeline_that_cannot_be_is_one_clear_error(collection: Path):
    with pytest.raises(InputError, match="runs on ONNX Runtime"):
        Engine.open(collection, device="cpu", warm_up=False, pipeline="resident")


def test_a_broken_device_ends_the_engine_and_too_little_memory_does_not(
    collection: Path, monkeypatch: pytest.MonkeyPatch
):
    settings: dict[str, Any] = {"runtime": "packed", "pipeline": "resident", "warm_up": False}
    with Engine.open(collection, device="cpu", **settings) as engine:
        search = Pipeline.search
        faults = iter([RuntimeError("CUDA out of memory"), RuntimeError("CUDA error: an illegal memory access")])

        def failing(self: Pipeline, queries: Queries, candidates: int, kept: int) -> Any:
            with translated("a test"):
                raise next(faults)

        monkeypatch.setattr(Pipeline, "search", failing)
        with pytest.raises(OutOfMemory):
            engine.search("sort", budget_ms=None)
        assert engine.batcher.broken is None
        with pytest.raises(DeviceError, match="refuses further work"):
            engine.search("sort", budget_ms=None)
        monkeypatch.setattr(Pipeline, "search", search)
        with pytest.raises(DeviceError, match="refuses further work"):
            engine.search("sort", budget_ms=None)
        with pytest.raises(DeviceError):
            engine.embed(["a text"])
        assert engine.batcher.broken is not None


def test_our_scan_on_the_device_honours_filters(collection: Path, staged: Engine) -> None:
    """Placed where a GPU would have it, on CPU tensors: the hits are those of the host's index."""
    opened = staged.placed.collection
    index = DeviceIndex(torch.from_numpy(np.array(opened.index.vectors)))
    asked: list[Any] = []
    under = index.under
    index.under = lambda allowed: asked.append(allowed) or under(allowed)  # type: ignore[method-assign, func-returns-value]
    with Engine.open(collection, device="cpu", warm_up=False, reranker_precision="fp32", recall_weight=3.0) as other:
        other._view.two_stage._placed = Placed(opened, index, None, {}, index)
        for question in QUESTIONS:
            found = (each.search(question, filters={"module": "json"}, budget_ms=None) for each in (other, staged))
            assert_same_hits(*found)
    assert len(asked) == 1, "one filter, one bitmap on the device"


def test_few_numbers_of_candidates_get_graphs(resident: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs, as on a GPU: the default has them from the start, and who asks for all numbers gets few more."""
    pipeline = Pipeline(pipeline_of(resident).parts)
    assert all(pipeline.takes(candidates) for candidates in range(1, 60)), "without graphs every number is as good"
    monkeypatch.setattr(pipeline, "_captures", True)
    assert pipeline.takes(100)
    taken = [candidates for candidates in range(1, 60) if pipeline.takes(candidates)]
    assert taken == list(range(1, pipelines.SHAPES))
    assert pipeline.takes(100)
    assert not pipeline.takes(59)


def test_warming_up_asks_for_every_number_of_queries_that_share_a_graph(
    resident: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(pipeline_of(resident).parts)
    asked: list[int] = []
    monkeypatch.setattr(pipeline, "search", lambda queries, candidates, kept: asked.append(len(queries)))
    pipeline.warm_up(100)
    assert sorted(set(asked)) == [1, 2, 4, 8, 16, 32, 64]


def test_pairs_in_words_of_a_model_s_own_are_joined_on_the_host(
    collection: Path, resident: Engine, monkeypatch: pytest.MonkeyPatch
):
    reranker = resident.reranker
    assert reranker is not None
    told = PairText(head="", instruction=None, neck="Query: ", middle=" Document: ", tail="")
    manifest = reranker.artifact.manifest.model_copy(update={"pair_text": told})
    monkeypatch.setattr(reranker.artifact, "manifest", manifest)
    settings = EngineSettings(runtime="packed", pipeline="resident")
    device = Device("cpu", "a test", 1)
    problem = pipeline_problem(resident.encoder, reranker, device, settings)
    assert "reads a pair in words of its own" in str(problem)
    with pytest.raises(InputError, match="joins pairs by special tokens"):
        open_pipeline(Collection.open(collection), resident.encoder, reranker, Fusion(), None)
