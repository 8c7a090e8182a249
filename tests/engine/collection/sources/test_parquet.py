from __future__ import annotations

import gzip
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tandem.engine.collection import Document, read_corpus
from tandem.engine.errors import CorpusError


@pytest.fixture
def write() -> Any:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    parquet = pytest.importorskip("pyarrow.parquet")

    def table(path: Path, **columns: list[Any]) -> Path:
        parquet.write_table(arrow.table(columns), path)
        return path

    return table


def test_values_as_json_has_them(tmp_path: Path, write: Any) -> None:
    path = write(
        tmp_path / "c.parquet", id=["a"], text=[b"in bytes"], n=[1], day=[date(2020, 1, 2)], d=[Decimal("1.5")],
        at=[datetime(2020, 1, 2, 3, 4)], missing=[float("nan")], tags=[["x", None]], inner=[{"k": 2.5}],
        __index_level_0__=[9],
    )  # fmt: skip
    assert list(read_corpus(path)) == [
        Document(
            "a", "", "in bytes",
            {"n": 1, "day": "2020-01-02", "d": 1.5, "at": "2020-01-02T03:04:00", "missing": None, "tags": ["x", None],
             "inner": {"k": 2.5}},
        )
    ]  # fmt: skip


def test_compressed_besides(tmp_path: Path, write: Any) -> None:
    plain = write(tmp_path / "c.parquet", id=[1, 2], text=["x", "y"])
    packed = tmp_path / "d.parquet.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [document.text for document in read_corpus(packed)] == ["x", "y"]


def test_rows_that_are_no_json(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "c.parquet", id=["a", "b"], text=["x", "y"], n=[float("inf"), 1.0])
    with pytest.raises(CorpusError, match="row 1: the row cannot be kept as JSON"):
        list(read_corpus(path))
    assert [document.id for document in read_corpus(path, skip_bad=True)] == ["b"]


def test_what_is_no_parquet(tmp_path: Path, write: Any) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(CorpusError, match="is not a readable Parquet file"):
        list(read_corpus(tmp_path / "c.parquet"))


def test_without_its_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"need another library; run `pip install 'tandem\[parquet\]'`"):
        list(read_corpus(tmp_path / "c.parquet"))
