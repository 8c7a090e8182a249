"""The command line as a person and as a machine meet it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tandem.cli import main
from tandem.engine import Engine
from tandem.engine.collection import Collection
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.platform import cuda_driver
from tandem.engine.scoring.effort import QUICK, REREAD

CORPUS = [
    {
        "_id": f"d{i}",
        "title": f"topic {word}",
        "text": f"The {word} is kept in the {word} room near the door.",
        "year": i,
    }
    for i, word in enumerate(("ladder", "kettle", "piano", "lantern", "carpet", "mirror", "saddle", "bucket"))
]


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `tandem …` in this process: (exit code, stdout, stderr)."""

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
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    queries = [{"_id": f"q{row['_id']}", "text": f"where is the {row['title'].split()[1]}"} for row in CORPUS]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels").mkdir()
    judgements = "".join(f"q{row['_id']}\t{row['_id']}\t1\n" for row in CORPUS)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judgements)
    return folder


@pytest.fixture
def collection(tandem, beir: Path, tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    out = tmp_path / "collection"
    code, _, err = tandem(
        "index", beir / "corpus.jsonl", "--encoder", tiny_bi_encoder, "--reranker", tiny_cross_encoder, "--out", out
    )
    assert code == 0, err
    return out


def test_index_tells_what_it_made_and_that_nothing_changed(
    tandem, beir, collection, tiny_bi_encoder, tiny_cross_encoder
):
    again = ("index", beir / "corpus.jsonl", "--encoder", tiny_bi_encoder, "--reranker", tiny_cross_encoder)
    code, out, err = tandem(*again, "--out", collection)
    assert code == 0
    assert "nothing changed" in err
    code, out, _ = tandem(*again, "--out", collection, "--json")
    report = json.loads(out)
    assert (report["passages"], report["unchanged"]) == (8, True)


@pytest.fixture
def indexed(tandem, tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    """Runs `tandem index` with its models."""
    out = tmp_path / "made"

    def run(*arguments: object) -> tuple[int, str, str]:
        models = ("--encoder", tiny_bi_encoder, "--reranker", tiny_cross_encoder, "--out", out)
        return tandem("index", *arguments, *models)

    return run


def test_the_numbers_and_dates_of_a_csv_can_be_compared(tandem, indexed, tmp_path: Path):
    (tmp_path / "c.csv").write_text("id;text;year;day\n1;a cat;2021;2021-03-04\n2;a dog;2019;2019-05-06\n")
    code, _, err = indexed(tmp_path / "c.csv")
    assert code == 0, err
    for condition in ("year>=2020", "year=2021", "day>2020-01-01"):
        _, out, _ = tandem("search", tmp_path / "made", "cat", "--filter", condition, "--json")
        assert [hit["id"] for hit in json.loads(out)["hits"]] == ["1"]
    _, out, _ = tandem("info", tmp_path / "made")
    assert re.search(r"fields +day \(date\), year \(number\)", out)
    _, out, _ = tandem("info", tmp_path / "made", "--json")
    told = json.loads(out)
    assert told["fields"] == {"day": ["text"], "year": ["number"]}
    assert told["field_types"] == {"year": "number", "day": "date"}
    code, _, err = indexed(tmp_path / "c.csv", "--field", "year:text")
    assert code == 0, err
    _, out, err = tandem("search", tmp_path / "made", "cat", "--filter", "year>=2020")
    assert out == ""
    assert "warning: no passage has a number in the field 'year': its values are of type text" in err


def test_what_a_folder_holds_besides_is_told(indexed, tmp_path: Path):
    notes = tmp_path / "notes"
    notes.mkdir()
    files = {"a.md": b"# A", "b.txt": b"caf\xe9", "draft.md": b"d", "c.png": b"x", "README": b"x"}
    for name, data in files.items():
        (notes / name).write_bytes(data)
    code, out, err = indexed(notes, "--include", "*.*", "--exclude", "draft*")
    assert code == 0, err
    assert err.splitlines()[-3:] == [
        "read 2 files: 1 .md, 1 .txt",
        "passed over 3 files: 1 .png, 2 by --include and --exclude",
        "read as Windows-1252, by their bytes: b.txt; if that is wrong, name the encoding with --encoding",
    ]
    assert "2 passages of 2 documents" in out
    _, out, _ = indexed(notes, "--include", "*.*", "--exclude", "draft*", "--json")
    report = json.loads(out)
    assert (report["unchanged"], report["passed_over"]) == (True, {".png": 1, "by --include and --exclude": 2})
    assert report["notes"] == err.splitlines()[-3:]
    code, _, err = indexed(notes, "--encoding", "cp850")
    assert code == 0
    assert "Windows-1252" not in err


@pytest.mark.parametrize("wrong", ["year", "year:", ":number", "year:int"])
def test_a_type_that_is_none(indexed, tmp_path: Path, wrong: str):
    code, _, err = indexed(tmp_path, "--field", wrong)
    assert code == 2
    assert f"--field {wrong}: write NAME:TYPE, the type one of text, number, boolean, date" in err


def test_search_for_people_and_for_machines(tandem, collection: Path):
    code, out, err = tandem("search", collection, "where is the piano", "--top-k", 3)
    assert code == 0
    assert "topic" in out
    assert any(f" {row['_id']}" in out for row in CORPUS), "the document is named"
    assert "reranked 8 of 8" in err
    code, out, _ = tandem("search", collection, "where is the piano", "--json", "--budget-ms", "none")
    result = json.loads(out)
    assert result["degraded"] is None
    assert {hit["id"] for hit in result["hits"]} == {row["_id"] for row in CORPUS}
    assert result["hits"][0]["metadata"]["year"] in range(8)
    whole = {row["_id"]: len(row["text"]) for row in CORPUS}
    for hit in result["hits"]:
        assert hit["place"] == {"chunk": 0, "start": 0, "end": whole[hit["id"]]}
    code, out, err = tandem("search", collection, "where is the piano", "--filter", "year=1999")
    assert (code, out) == (0, "")
    assert "nothing was found; no passage passes the filter" in err
    _, _, err = tandem("search", collection, "where is the piano", "--filter", "yaer=3")
    assert "warning: no passage has the field 'yaer'; there are 'year'" in err


def test_what_was_left_undone_is_told_as_it_was_done(tandem, collection: Path, monkeypatch: pytest.MonkeyPatch):
    _, _, err = tandem("search", collection, "where is the piano", "--budget-ms", "0.001")
    told = next(line for line in err.splitlines() if line.startswith("degraded: "))
    read = int(re.search(r"reranked (\d+) of 8", err)[1])
    assert read < 8
    assert all(int(number) == read for number in re.findall(r"(\d+) of 8", told))


def test_search_with_filters(tandem, collection: Path):
    search = ("search", collection, "where is the piano", "--json", "--budget-ms", "none")
    for arguments, years in (
        (("--filter", "year=3"), {3}),
        (("--filter", "year>=2", "--filter", "year<4"), {2, 3}),
        (("--filter", '{"$or": [{"year": 0}, {"year": 7}]}'), {0, 7}),
        (("--filter", "year=1999"), set()),
    ):
        code, out, err = tandem(*search, *arguments)
        assert code == 0, err
        assert {hit["metadata"]["year"] for hit in json.loads(out)["hits"]} == years
    for wrong in ("year", '{"year": {"$near": 1}}', "{"):
        code, _, err = tandem(*search, "--filter", wrong)
        assert (code, "filter" in err) == (2, True)


def test_eval_measures_three_orders_and_writes_runs(tandem, beir: Path, collection: Path, tmp_path: Path):
    code, out, err = tandem("eval", collection, beir, "--json", "--runs", tmp_path / "runs")
    assert code == 0, err
    quality = json.loads(out)
    assert quality["questions"] == 8
    assert set(quality["metrics"]) == {"vectors", "recall", "evidence", "rerank", "fused"}
    assert quality["metrics"]["recall"]["recall@100"] == 1.0
    lines = (tmp_path / "runs" / "recall.trec").read_text().splitlines()
    assert len(lines) == 64
    assert lines[0].split()[1] == "Q0"
    code, out, _ = tandem("eval", collection, beir, "--no-rerank", "--save", "--results", tmp_path / "results")
    assert code == 0
    kept = json.loads((tmp_path / "results" / f"eval-{beir.name}-recall.json").read_text())
    assert kept["workload"]["questions"] == 8
    assert [row[0] for row in kept["tables"][0]["rows"]] == ["vectors", "recall"]
    assert kept["command"].startswith("tandem ")
    assert "nDCG@10" in out
    assert "fused" not in out


def test_eval_compares_rerankers_in_one_table(
    tandem, beir: Path, collection: Path, tmp_path: Path, tiny_cross_encoder: Path, other_cross_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    recalls: list[str] = []
    recall = Engine.recall
    monkeypatch.setattr(
        Engine, "recall", lambda self, query, **settings: recalls.append(query) or recall(self, query, **settings)
    )
    both = ("--reranker", tiny_cross_encoder, "--reranker", other_cross_encoder)
    kept = ("--runs", tmp_path / "runs", "--hits", tmp_path / "hits.jsonl", "--save", "--results", tmp_path / "results")
    code, out, err = tandem("eval", collection, beir, *both, *kept, "--precision", "fp32", "--json")
    assert code == 0, err
    assert len(recalls) == len(set(recalls)) == 8, "once a question, for both"
    document = json.loads(out)
    first, second = names = list(document["rerankers"])
    rows = [(row["reranker"], row["order"]) for row in document["rows"]]
    assert rows == [(None, "recall"), (first, "rerank"), (first, "fused"), (second, "rerank"), (second, "fused")]
    assert all(row["p50_ms"] > 0 for row in document["rows"])
    for name, path in zip(names, both[1::2], strict=True):
        _, alone, _ = tandem("eval", collection, beir, "--reranker", path, "--precision", "fp32", "--json")
        assert document["rerankers"][name]["metrics"] == json.loads(alone)["metrics"]
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == len(list((tmp_path / "results").iterdir())) == 2
    assert {file.name for folder in folders for file in folder.iterdir()} == {
        f"{order}.trec" for order in ("vectors", "recall", "evidence", "rerank", "fused")
    }
    lines = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    assert {name: sum(line["reranker"] == name for line in lines) for name in names} == dict.fromkeys(names, 64)

    code, out, err = tandem("eval", collection, beir, *both)
    assert code == 0, err
    assert [column in out.splitlines()[0] for column in ("nDCG@10", "accuracy@1", "MRR@10", "p50 ms")] == [True] * 4
    assert len(out.splitlines()) == 6, "one line an order"
    assert "which recall found once for all rerankers" in err
    for wrong, message in (
        ((*both, "--no-rerank"), "leaves nothing to compare"),
        ((*both, *both[:2]), "is given twice"),
        ((*both, "--reranker", tmp_path), "has no manifest.json"),
    ):
        code, _, err = tandem("eval", collection, beir, *wrong)
        assert (code > 0, message in err) == (True, True), err


def test_retokenize_gives_a_collection_another_reranker(
    tandem, collection: Path, tiny_bi_encoder: Path, other_cross_encoder: Path
):
    _, _, err = tandem("search", collection, "where is the piano", "--reranker", other_cross_encoder)
    assert f"tandem retokenize {collection} --reranker {other_cross_encoder}" in err
    code, out, err = tandem("retokenize", collection, "--reranker", other_cross_encoder)
    assert code == 0, err
    assert "8 passages tokenised for" in out
    code, out, _ = tandem("retokenize", collection, "--reranker", other_cross_encoder, "--json")
    assert (json.loads(out)["unchanged"], json.loads(out)["passages"]) == (True, 0)
    _, _, err = tandem("search", collection, "where is the piano")
    assert "retokenize" not in err
    assert tandem("verify", collection)[0] == 0
    for wrong, code in ((tiny_bi_encoder, 4), (collection, 4)):
        assert tandem("retokenize", collection, "--reranker", wrong)[0] == code


def test_info_tells_what_another_reranker_means_for_a_gpu(tandem, collection: Path, other_cross_encoder: Path):
    plan = ("info", collection, "--device", "cuda", "--gpu-memory-gib", 80)
    assert "the token store" in tandem(*plan)[1]
    _, out, _ = tandem(*plan, "--reranker", other_cross_encoder)
    assert "the token store" not in out
    assert "staged: the stored token ids are another tokenizer's" in out


def test_what_trains_nothing_takes_no_start(tandem, tmp_path: Path):
    asked = ("--data", tmp_path, "--out", tmp_path / "out", "--refit", "minilm-l6-reranker")
    code, _, err = tandem("finetune", *asked, "--start", "minilm-l6-reranker")
    assert code == 2
    assert "leave --start" in err


def test_effort_says_how_much_is_read(tandem, beir: Path, collection: Path, tmp_path: Path):
    asked = ("--effort", "quick", "--json")
    code, out, err = tandem("eval", collection, beir, *asked, "--budget-ms", "60000", "--save", "--results", tmp_path)
    assert code == 0, err
    assert (document := json.loads(out))["effort"] == "quick"
    passages = len(Collection.open(collection))
    assert document["read"] == {"reranked": min(QUICK, passages), "finalists": min(QUICK, passages), "reread": REREAD}
    kept = json.loads((tmp_path / f"eval-{beir.name}-60000-ms-quick.json").read_text())
    for said in ("Effort quick: the cross-encoder read the", "A search has 60000 ms."):
        assert any(said in note for note in kept["tables"][0]["notes"])
    code, out, err = tandem("search", collection, "how to read a zip file", "--budget-ms", "none", *asked)
    assert code == 0, err
    assert (json.loads(out)["reranked"], json.loads(out)["reread"]) == (min(QUICK, passages), REREAD)
    code, _, err = tandem("search", collection, "how to read a zip file", "--effort", "much")
    assert code == 2
    assert "'quick', 'balanced' or 'thorough'" in err


def test_eval_writes_every_candidate_with_its_scores(tandem, beir: Path, collection: Path, tmp_path: Path):
    code, out, err = tandem(
        "eval", collection, beir, "--json", "--runs", tmp_path / "runs", "--hits", tmp_path / "hits.jsonl"
    )
    assert code == 0, err
    weights = json.loads(out)
    order: dict[str, list[str]] = {}
    for line in (tmp_path / "hits.jsonl").read_text().splitlines():
        hit = json.loads(line)
        order.setdefault(hit["query"], []).append(hit["document"])
        evidence = hit["recall_score"] + weights["lexical_weight"] * hit["lexical_score"]
        assert hit["score"] == pytest.approx(hit["rerank_score"] + weights["recall_weight"] * evidence, abs=1e-4)
        assert hit["gain"] in (0, 1)
    run = [line.split() for line in (tmp_path / "runs" / "fused.trec").read_text().splitlines()]
    for query, documents in order.items():
        assert [row[2] for row in run if row[0] == query] == list(dict.fromkeys(documents))
    code, _, err = tandem("eval", collection, beir, "--hits", tmp_path / "missing" / "hits.jsonl")
    assert (code, "cannot write" in err) == (7, True)


def test_calibrate_keeps_a_weight_that_eval_then_uses(tandem, beir: Path, collection: Path):
    code, out, err = tandem("calibrate", collection, beir, "--json")
    assert code == 0, err
    fitted = json.loads(out)
    assert fitted["after"] >= fitted["before"] - 1e-9
    _, out, _ = tandem("eval", collection, beir, "--json")
    assert json.loads(out)["recall_weight"] == fitted["fusion"]["recall_weight"]
    assert tandem("calibrate", collection, "--reset")[0] == 0


def test_verify_and_info(tandem, collection: Path, tiny_bi_encoder: Path):
    assert tandem("verify", collection)[0] == 0
    assert tandem("verify", tiny_bi_encoder)[0] == 0
    assert json.loads(tandem("info", collection, "--json")[1])["passages"] == 8
    assert json.loads(tandem("info", tiny_bi_encoder, "--json")[1])["kind"] == "bi-encoder"
    assert json.loads(tandem("info", "--json")[1])["device"] in ("cpu", "cuda")


def test_info_is_a_page_for_people(tandem, collection: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    _, out, _ = tandem("info", collection)
    for said in ("passages", "8", "corpus.jsonl", "flat", "bi-encoder", "cross-encoder", "in all", "kB", "texts"):
        assert said in out
    assert "{" not in out, "a page, not a document"
    for model, kind in ((tiny_bi_encoder, "bi-encoder"), (tiny_cross_encoder, "cross-encoder")):
        _, out, _ = tandem("info", model)
        for said in (kind, "128 tokens", "fp32", "int8", "on disk", "Kendall tau", "fingerprint"):
            assert said in out
    _, out, _ = tandem("info")
    assert "CPU threads" in out
    _, out, _ = tandem("info", collection, "--device", "cuda", "--gpu-memory-gib", 80)
    for said in ("the token store", "in all", "80.00 GiB", "it fits"):
        assert said in out
    assert "it does not fit" in tandem("info", collection, "--device", "cuda", "--gpu-memory-gib", 1)[1]


def test_info_says_where_a_model_is_missing(tandem, collection: Path):
    (current,) = collection.glob("versions/*/manifest.json")
    encoder = json.loads(current.read_text())["models"]["encoder"]["path"]
    moved = (collection / encoder).resolve()
    assert "is not there" not in tandem("info", collection)[1]
    hidden = moved.with_name("elsewhere")
    moved.rename(hidden)
    try:
        assert "is not there" in " ".join(tandem("info", collection)[1].split())
    finally:
        hidden.rename(moved)


def test_info_tells_how_a_collection_would_lie_on_a_gpu(tandem, collection: Path):
    code, out, err = tandem("info", collection, "--device", "cuda", "--gpu-memory-gib", 80, "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["fits"] is True
    assert plan["total_gib"] == pytest.approx(sum(plan["gib"].values()), abs=0.01)
    assert {"the token store", "the reranker's weights", "vectors (scan)"} <= set(plan["gib"])
    plan = json.loads(tandem("info", collection, "--device", "cuda", "--gpu-memory-gib", 1, "--json")[1])
    assert plan["fits"] is False
    assert "use a" in plan["problem"]


def test_info_plans_with_what_the_engine_would_find_on_the_card(
    tandem, collection: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Gpu("a card", 80 * 2**30, (9, 0)))
    monkeypatch.setattr(cuda_driver, "torch_problem", lambda: "triton is not installed")
    code, out, _ = tandem("info", collection, "--device", "cuda", "--json")
    assert json.loads(out)["recall"].startswith("scan: ")  # nothing reaches the card: planned as if all were installed
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    for faiss, recall in ((None, "flat: "), ("a build without GPU support", "neither our kernels nor FAISS")):
        monkeypatch.setattr(cuda_driver, "faiss_problem", lambda faiss=faiss: faiss)
        code, out, err = tandem("info", collection, "--device", "cuda", "--json")
        assert code == 0, err
        plan = json.loads(out)
        assert plan["gpu"] == "a card"
        assert plan["encoder"].startswith("onnx fp16: the packed runtime does not run this model")
        assert plan["recall"].startswith(recall)
        assert plan["fits"] is True


def test_verify_finds_a_flipped_byte(tandem, collection: Path):
    texts = next(collection.rglob("texts.npy"))
    data = bytearray(texts.read_bytes())
    data[-5] ^= 1
    texts.write_bytes(data)
    code, _, err = tandem("verify", collection)
    assert code == 5
    assert "texts.npy is damaged" in " ".join(err.split())


def test_interrupted_indexing_keeps_what_was_finished(
    tandem, beir: Path, tmp_path: Path, tiny_bi_encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = (
        "index",
        "python:json,zipfile,threading",
        "--encoder",
        tiny_bi_encoder,
        "--out",
        tmp_path / "c",
        "--json",
    )
    encode, calls = BiEncoder.encode, []

    def interrupted(self, batch):
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(BiEncoder, "encode", interrupted)
    monkeypatch.setattr("tandem.engine.collection.encoding.STEP", 10)
    monkeypatch.setattr("tandem.engine.collection.encoding.KEEP_SECONDS", 0.0)
    code, _, err = tandem(*arguments)
    assert code == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    before = sum(calls)
    code, out, err = tandem(*arguments)
    assert code == 0, err
    assert sum(calls) - before == json.loads(out)["encoded"] - 10, "the first step was kept"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("search", "{tmp}/nowhere", "q"), 5, "nowhere is not a folder"),
        (("search", "{collection}", " "), 2, "the query is empty"),
        (("search", "{collection}", "q", "--top-k", "200", "--candidates", "100"), 2, "exceeds candidates"),
        (("search", "{collection}", "q", "--device", "cuda"), 8, "device cuda was asked for"),
        (("info", "{collection}", "--device", "tpu"), 2, "memory plan is for --device cuda"),
        (("info", "--device", "cuda"), 2, "needs a collection"),
        (("bench", "gpu", "--out", "{tmp}/results"), 8, "needs a GPU"),
        (("eval", "{collection}", "{tmp}"), 3, "qrels"),
        (("index", "{tmp}/none.jsonl", "--encoder", "{encoder}", "--out", "{tmp}/c"), 3, "none.jsonl"),
        (("index", "{tmp}/bad.jsonl", "--encoder", "{encoder}", "--out", "{tmp}/c"), 3, "bad.jsonl, line 2"),
        (("index", "{tmp}/bad.jsonl", "--encoder", "{reranker}", "--out", "{tmp}/c"), 4, "bi-encoder is needed"),
        (("verify", "{tmp}"), 5, "holds no collection"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    tandem, collection: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path, arguments, code, message
):
    (tmp_path / "bad.jsonl").write_text('{"_id": "1", "text": "fine"}\n{"_id": "2", "text"\n')
    places = {"tmp": tmp_path, "collection": collection, "encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}
    if arguments[0] == "bench" and not isinstance(cuda_driver.find(), str):
        pytest.skip("there is a GPU, and the benchmark would run")
    found, _, err = tandem(*(argument.format(**places) for argument in arguments))
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert found == code


def test_debug_shows_the_traceback(tandem, tmp_path: Path):
    with pytest.raises(Exception, match="nowhere"):
        tandem("--debug", "search", tmp_path / "nowhere", "q")


@pytest.mark.parametrize(("option", "value"), [("--rank", "-1"), ("--minutes", "0"), ("--negatives", "many")])
def test_a_setting_that_cannot_be_is_refused_before_anything_is_read(tandem, tmp_path: Path, option: str, value: str):
    code, _, err = tandem("finetune", "--data", tmp_path / "absent", "--out", tmp_path / "a", option, value)
    assert code == 2
    assert f"{option}: Input should be" in " ".join(err.split())
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("number", "status"), [(1, 128 + signal.SIGTERM), (2, -signal.SIGTERM)])
def test_the_first_process_of_a_container_ends_when_it_is_asked_to(number: int, status: int):
    """The kernel drops a signal that process 1 does not handle."""
    code = (
        f"import os, time\nos.getpid = lambda: {number}\nfrom tandem import cli\n"
        "def app(**_):\n    print('there', flush=True)\n    time.sleep(60)\ncli.app = app\ncli.main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.terminate()
        assert process.wait(30) == status
