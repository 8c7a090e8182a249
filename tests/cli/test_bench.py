"""Every `tandem bench` command at its smallest: tables for people, JSON last for machines, results that report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tandem.bench import roofline
from tandem.bench.recall.other_indexes import RECALL_RIVALS
from tandem.cli import main
from tandem.cli.benching import typed

WORDS = ("ladder", "kettle", "piano", "lantern", "carpet", "mirror", "saddle", "bucket")


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(roofline, "SIZE", 64)
    monkeypatch.setattr(roofline, "COPIED", 1_000_000)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tandem", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beir")
    rows = [{"_id": word, "title": "", "text": f"The {word} is kept near the door of its room."} for word in WORDS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": f"q{word}", "text": f"where is the {word}"} for word in WORDS]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *(f"q{word}\t{word}\t1" for word in WORDS)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def collection(
    tmp_path_factory: pytest.TempPathFactory, beir: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Path:
    from tandem.engine.build.indexing import index_corpus

    out = tmp_path_factory.mktemp("bench") / "collection"
    index_corpus(beir / "corpus.jsonl", out, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, threads=1)
    return out


SMALL = {
    "latency": ("--sample", 2, "--candidates", 4, "--rival", "onnxruntime"),
    "throughput": ("--sample", 2, "--candidates", 4, "--rival", "none", "--repeats", 1, "--callers", 2),
    "recall": ("--rows", 300, "--sample", 4, "--rival", "faiss flat"),
    "index": ("--passages", 4, "--repeats", 1, "--rival", "none"),
    "rivals": ("--sample", 1, "--candidates", 4, "--rival", "onnxruntime", "--rival", "flashrank"),
    "quality": ("--sample", 3, "--candidates", 2, "--candidates", 8, "--budget-ms", 100, "--timed", 1),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_ends_in_json_that_is_kept(tandem, beir: Path, collection: Path, tmp_path: Path, name: str):
    if name == "quality":
        pytest.importorskip("bm25s")
    more = ("--environments", tmp_path / "none") if name == "rivals" else ()
    code, out, err = tandem(
        "bench", name, collection, "--questions", beir, "--threads", 1, *SMALL[name], *more, "--save",
        "--results", tmp_path / "results",
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(out.splitlines()[-1])
    assert document["benchmark"] == name
    assert document["environment"]["cores"] >= 1
    assert not any(part.startswith("/") for part in document["command"].split())
    kept = list((tmp_path / "results").glob("*.json"))
    assert [json.loads(path.read_text()) for path in kept] == [document]
    for table in document["tables"]:
        assert table["title"].split(":")[0] in err
    if name == "latency":
        assert {"tandem", "tandem fp32", "onnxruntime"} <= set(document["systems"])
        assert "× rerank in the same precision" in document["tables"][0]["columns"]
    if name == "rivals":
        assert document["rivals"]["onnxruntime"]["tau"] == pytest.approx(1.0)
        assert "flashrank is not here: no environment" in " ".join(err.split())


def test_export_times_our_graphs_beside_the_plain_ones(tandem, tiny_cross_encoder: Path):
    code, out, err = tandem("bench", "export", tiny_cross_encoder, "--repeats", 1, "--threads", 1)
    assert code == 0, err
    graphs = json.loads(out.splitlines()[-1])["graphs"]
    assert {"tandem fp32", "tandem int8", "torch.onnx, as exported", "sentence-transformers (PyTorch)"} <= set(graphs)
    assert all(each["ms"]["1 × 16"]["p50"] > 0 for each in graphs.values())


def test_what_was_measured_stays_when_the_rest_is_interrupted(
    tandem, beir: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(RECALL_RIVALS, "usearch", interrupted)
    code, _, _ = tandem(
        "bench", "recall", collection, "--questions", beir, "--threads", 1, *SMALL["recall"], "--rival", "usearch",
        "--save", "--results", tmp_path,
    )  # fmt: skip
    assert code == 130
    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text())
    assert list(document["sizes"]["300"]) == ["tandem", "tandem, segments", "faiss flat"]
    assert document["command"].startswith("tandem bench recall")


@pytest.mark.parametrize("name", ["latency", "quality", "recall", "throughput"])
def test_report_draws_what_was_saved(tandem, beir: Path, collection: Path, tmp_path: Path, name: str):
    pytest.importorskip("matplotlib")
    results = tmp_path / "bench" / "results"
    kept = ("--questions", beir, "--threads", 1, "--save", "--results", results)
    assert tandem("bench", name, collection, *SMALL[name], *kept)[0] == 0
    code, out, err = tandem("bench", "report", "--results", results, "--out", tmp_path / "bench" / "RESULTS.md")
    assert code == 0, err
    words = (tmp_path / "bench" / "RESULTS.md").read_text()
    (kept_as,) = json.loads(out)["results"]
    assert f"![{name}: {beir.name}](results/{kept_as}.svg)" in words
    assert "<svg" in (results / f"{kept_as}.svg").read_text()
    drawn = (results / f"{kept_as}.svg").read_bytes()
    tandem("bench", "report", "--results", results, "--out", tmp_path / "bench" / "RESULTS.md")
    assert (results / f"{kept_as}.svg").read_bytes() == drawn, "the same result is the same picture"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latency", "{collection}"), "Give a BEIR folder with --questions"),
        (("latency", "{collection}", "--questions", "{beir}", "--rival", "nobody"), "unknown rival 'nobody'"),
        (("recall", "{collection}", "--questions", "{beir}", "--rival", "nobody"), "unknown index 'nobody'"),
        (("report", "--results", "{beir}"), "holds no saved result"),
    ],
)
def test_bad_input_is_one_sentence(tandem, beir: Path, collection: Path, arguments, message: str):
    places = {"beir": beir, "collection": collection}
    code, _, err = tandem("bench", *(argument.format(**places) for argument in arguments))
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_a_saved_command_tells_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    here = tmp_path / "a" / "b" / "c" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(
        sys, "argv",
        ["tandem", "bench", "latency", str(here / "x"), "../data/squad", f"--questions={tmp_path}/secret/squad",
         "--results", str(tmp_path), "--save"],
    )  # fmt: skip
    assert typed() == "tandem bench latency x ../data/squad --questions=squad --save"
