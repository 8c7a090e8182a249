"""README and docs: every command and every example runs, links lead somewhere, pages stay short.

A fenced block of `sh` or `python` is run in a folder that has a corpus, two models and a collection, page by page, in
the order of the page. Two comments before a block change that, and both say why:

    <!-- make docs: REASON -->   runs with the bundled models only, which takes minutes: `make docs`
    <!-- not run: REASON -->     cannot run on every machine; its commands are parsed, so that their options exist

`make test` runs the pages with tiny random models, `make docs` with the bundled ones.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from .pages import ROOT, World, anchors, blocks, command_line, options, parsed, prose

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PASSAGES = (
    ("backups", "Nightly backups of the database are kept for thirty days.", "en", 2021),
    ("keys", "An API key is reset on the settings page, under security.", "en", 2023),
    ("oil", "The oil crisis began in October 1973 with an embargo.", "en", 2019),
    ("folder", "A temporary folder is deleted when the program ends.", "en", 2024),
    ("wetter", "Das Wetter bleibt am Wochenende trocken und kalt.", "de", 2022),
)


def write_inputs(folder: Path) -> None:
    """What the pages take for granted: corpus.jsonl, beir/, notes/."""
    corpus = [
        {"_id": name, "title": name, "text": text, "lang": lang, "year": year} for name, text, lang, year in PASSAGES
    ]
    for place in (folder, folder / "beir"):
        (place / "qrels").mkdir(parents=True)
        (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus), encoding="utf-8")
    (folder / "notes").mkdir()
    queries, judged = [], ["query-id\tcorpus-id\tscore"]
    for name, text, _, _ in PASSAGES:
        (folder / "notes" / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        queries.append(json.dumps({"_id": f"q-{name}", "text": text.lower()}))
        judged.append(f"q-{name}\t{name}\t1")
    (folder / "beir" / "queries.jsonl").write_text("\n".join(queries), encoding="utf-8")
    (folder / "beir" / "qrels" / "test.tsv").write_text("\n".join(judged), encoding="utf-8")


def prepared(folder: Path, encoder: Path, reranker: Path, other: Path) -> Path:
    """The folder that every page starts from."""
    from tandem.engine.build.indexing import index_corpus

    write_inputs(folder)
    index_corpus(
        str(folder / "corpus.jsonl"), folder / "collection", encoder=encoder, reranker=reranker, threads=1
    )  # fmt: skip
    shutil.copytree(encoder, folder / "models" / "encoder")
    shutil.copytree(reranker, folder / "models" / "reranker")
    shutil.copytree(other, folder / "models" / "other-reranker")
    return folder


@pytest.fixture(scope="module")
def tiny_world(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path, other_cross_encoder: Path
) -> Path:
    return prepared(tmp_path_factory.mktemp("world"), tiny_bi_encoder, tiny_cross_encoder, other_cross_encoder)


@pytest.fixture(scope="module")
def bundled_world(tmp_path_factory: pytest.TempPathFactory, other_cross_encoder: Path) -> Path:
    from tandem.export.bundled_artifacts import exported

    models = ROOT / ".bench" / "models"
    encoder, reranker = (exported(name, models / name) for name in ("minilm-l6", "minilm-l6-reranker"))
    return prepared(tmp_path_factory.mktemp("world"), encoder, reranker, other_cross_encoder)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    running = World(capsys)
    yield running
    running.close()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_runs_with_tiny_models(
    page: Path, world: World, tiny_world: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    from tandem.export.bundled import BUNDLED

    for name, artifact in (("minilm-l6", tiny_bi_encoder), ("minilm-l6-reranker", tiny_cross_encoder)):
        source = artifact.parent / "source"
        tiny = SimpleNamespace(kind=BUNDLED[name].kind, adapter=None, folder=lambda source=source: source)
        monkeypatch.setitem(BUNDLED, name, tiny)
    shutil.copytree(tiny_world, ".", dirs_exist_ok=True)
    for block in blocks(page):
        if block.mark is None:
            world.run(block)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_runs_with_the_bundled_models(page: Path, world: World, bundled_world: Path):
    shutil.copytree(bundled_world, ".", dirs_exist_ok=True)
    for block in blocks(page):
        if block.mark != "not run":
            world.run(block)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_that_are_not_run_exist(page: Path):
    for block in blocks(page):
        if block.mark is not None and block.language == "sh":
            for command in block.commands:
                parsed(command)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_options_in_the_text_exist(page: Path):
    known = {"--help", *options(command_line())}
    said = {
        flag
        for code in re.findall(r"`(?!docker|podman|helm|kubectl|systemd)([^`]+)`", prose(page))
        for flag in re.findall(r"--[a-z][\w-]+", code)
    }
    assert not said - known, f"no command has {said - known}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path):
    for link in LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_is_short_and_a_long_one_has_contents(page: Path):
    words = page.read_text(encoding="utf-8")
    lines = words.count("\n")
    assert lines <= (150 if page.name == "README.md" else 250)
    assert page.name != "README.md" or len(words.split()) < 1500
    assert lines < 120 or page.name == "README.md" or "\n**Contents:**" in words


def test_the_walk_names_files_that_hold_what_it_says():
    page = ROOT / "docs" / "architecture.md"
    steps = [line for line in prose(page).splitlines() if re.match(r"\| \d", line)]
    assert len(steps) > 8
    for step in steps:
        _, _, _, where, _ = step.split("|")
        file = page.parent / LINK.findall(where)[0]
        source = file.read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", where.replace(file.name, "")):
            for part in name.split("."):
                assert re.search(rf"(def|class) {part}\b", source), f"{file} has no {part}"


def test_the_page_of_options_is_what_the_engine_declares():
    made = runpy.run_path(str(ROOT / "docs" / "make_options.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), "run `python docs/make_options.py`"
