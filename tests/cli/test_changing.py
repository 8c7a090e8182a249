"""A collection that is changed from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem.engine.collection import Collection

from .test_commands import beir, collection, tandem  # noqa: F401  (fixtures)


def found(tandem, collection: Path, query: str = "ladder", *more: object) -> set[str]:  # noqa: F811
    code, out, err = tandem("search", collection, query, "--json", "--no-rerank", "--budget-ms", "none", *more)
    assert code == 0, err
    return {hit["id"] for hit in json.loads(out)["hits"]}


def test_documents_are_added_replaced_and_deleted(tandem, collection: Path, tmp_path: Path) -> None:  # noqa: F811
    rows = [
        {"_id": "d1", "title": "", "text": "The kettle is gone.", "year": 1},
        {"_id": "new", "text": "The violin is in the hall.", "year": 99},
    ]
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = tandem("add", collection, more, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["added"], report["replaced"], report["documents"]) == (1, 1, 9)
    assert "new" in found(tandem, collection, "violin")
    assert found(tandem, collection, "violin", "--filter", "year>50") == {"new"}
    _, out, _ = tandem("add", collection, more)
    assert "2 unchanged; 9 passages of 9 documents" in " ".join(out.split())
    _, out, _ = tandem("info", collection)
    assert "1 passages are deleted, which a merge takes out" in " ".join(out.split())
    _, out, _ = tandem("delete", collection, "d2", "nobody", "--filter", "year=99")
    assert "2 deleted, 1 missing" in " ".join(out.split())
    assert {"d2", "new"} & found(tandem, collection) == set()
    code, out, _ = tandem("merge", collection, "--all", "--json")
    assert (code, json.loads(out)["after"]) == (0, 1)
    assert Collection.open(collection).live is None
    assert "nothing to merge: 1 segments" in tandem("merge", collection)[1]
    assert tandem("verify", collection)[0] == 0


def test_indexing_again_says_what_changed(tandem, tmp_path: Path, tiny_bi_encoder: Path) -> None:  # noqa: F811
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("attic", "barn", "cellar"):
        (notes / f"{name}.md").write_text(f"# The {name}\n\nThe ladder is in the {name}.")
    index = ("index", notes, "--encoder", tiny_bi_encoder, "--out", tmp_path / "c")
    assert tandem(*index)[0] == 0
    assert "nothing changed" in tandem(*index)[2]
    (notes / "barn.md").write_text("The kettle is in the barn.")
    (notes / "cellar.md").unlink()
    (notes / "shed.md").write_text("The piano is in the shed.")
    code, out, _ = tandem(*index)
    assert code == 0
    assert "1 documents kept, 2 passages new, 2 documents gone" in " ".join(out.split())
    assert found(tandem, tmp_path / "c") == {"attic.md", "barn.md", "shed.md"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("delete",), "name documents to delete"),
        (("delete", "--filter", "year"), "write KEY=VALUE"),
        (("add", "nowhere.jsonl"), "nowhere.jsonl"),
        (("merge",), ""),
    ],
)
def test_bad_input_is_one_sentence(tandem, collection: Path, arguments: tuple[str, ...], said: str) -> None:  # noqa: F811
    name, *others = arguments
    code, _, err = tandem(name, collection, *others)
    assert (code != 0) == bool(said)
    assert said in err
    assert tandem(name, collection / "elsewhere", *others)[0] != 0
