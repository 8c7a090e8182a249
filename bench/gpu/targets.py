"""What is to be reached on an H100, judged by the rows of a run; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..document import Row
from ..random_models.shapes import BERT_BASE, MINILM

PASSAGES, TOKENS, CANDIDATES = 1_000_000, 128, 100
SCANNED, WIDTH = 10_000_000, 384


def targets(sections: dict[str, Any]) -> list[Row]:
    """A row a target: its name, what was measured, what is wanted, and whether that was reached; None: not measured."""

    def rows(section: str, **wanted: Any) -> list[Row]:
        found: list[Row] = sections.get(section, {}).get("rows", [])
        return [row for row in found if all(row.get(key) == value for key, value in wanted.items())]

    def of(contestant: str, column: str = "pairs/s", model: str = MINILM.name) -> float | None:
        """Of its row of most pairs."""
        largest = max((row.get("pairs", 0) for row in rows("rivals", model=model)), default=0)
        return _value(rows("rivals", model=model, pairs=largest, who=contestant), column)

    search = rows("latency", model=MINILM.name, passages=PASSAGES, tokens=TOKENS, candidates=CANDIDATES)
    scan = [row for row in rows("kernels") if _is_scan(row.get("case", ""))]
    name = f"search of {PASSAGES:,} × {WIDTH}, {CANDIDATES} candidates of mean {TOKENS} tokens, one query at a time"
    return [
        _at_most(f"{name}: p50, ms", _value(search, "p50 ms"), 2.0),
        _at_most(f"{name}: p99, ms", _value(search, "p99 ms"), 4.0),
        _at_least(f"rerank of pairs of mean {TOKENS} tokens, {MINILM.name}, pairs/s", of("tandem packed"), 80_000),
        _at_least(
            "the same from texts, times sentence-transformers FP16 from texts",
            _ratio(of("tandem packed, from texts"), of("sentence-transformers FP16")), 10.0,
        ),
        _at_least(
            f"rerank, {BERT_BASE.name}, share of the measured matmul rate",
            of("tandem packed", "share of matmul rate", BERT_BASE.name), 0.45,
        ),
        _at_most(
            f"exact scan of {SCANNED:,} × {WIDTH} FP16, one query, times bytes over the measured bandwidth",
            _ratio(1.0, _value(scan, "share of peak")), 1.5,
        ),
        _at_least(
            f"ONNX Runtime FP16, {MINILM.name}, times plain ONNX Runtime FP16",
            _ratio(of("tandem ONNX Runtime"), of("plain ONNX Runtime")), 2.0,
        ),
    ]  # fmt: skip


def _is_scan(case: str) -> bool:
    """`kernel_cases` names a scan by its sizes and then its queries."""
    start = f"scan {SCANNED:,} × {WIDTH}, 1 quer"
    return case.startswith(start)


def _value(rows: list[Row], column: str) -> float | None:
    """Of the first row that has it."""
    return next((row[column] for row in rows if row.get(column) is not None), None)


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _at_most(name: str, measured: float | None, bound: float) -> Row:
    return _row(name, measured, f"≤ {bound:g}", lambda value: value <= bound)


def _at_least(name: str, measured: float | None, bound: float) -> Row:
    return _row(name, measured, f"≥ {bound:,g}", lambda value: value >= bound)


def _row(name: str, measured: float | None, target: str, reached: Callable[[float], bool]) -> Row:
    return {
        "name": name, "measured": measured, "target": target, "passed": None if measured is None else reached(measured),
    }  # fmt: skip
