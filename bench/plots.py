"""Saved results as pictures (SVG): the same file for the same result, so that a commit shows what changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .document import Document

OURS, THEIRS, QUIET, PROMISE = "#1f5fbf", "#9aa5b1", "#52606d", "#c2410c"
Axes = Any


def draw(name: str, result: Document, folder: Path) -> list[Path]:
    """The pictures of a saved result called `name`, written to `folder`; none for a benchmark without pictures."""
    plot = PLOTS.get(str(result["benchmark"]))
    if plot is None:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False,
             "axes.spines.right": False, "axes.edgecolor": QUIET}  # fmt: skip
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        plot(axes, result)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))
    return [path]


def _quality(axes: Axes, result: Document) -> None:
    """Accuracy against milliseconds: budgets that were run as lines, unlimited candidate counts as points."""
    budgets = sorted(result["budgets"], key=lambda row: row["ms"]["p50"])
    for metric, style in (("accuracy@1", "-"), ("accuracy@3", "--"), ("accuracy@10", ":")):
        ms = [row["ms"]["p50"] for row in budgets]
        axes.plot(ms, [row[metric] for row in budgets], style, color=OURS, marker="o", label=f"{metric}, budget run")
    counted = [row for row in result["orders"] if row["order"] == "fused" and row["ms"] is not None]
    axes.plot([row["ms"] for row in counted], [row["accuracy@1"] for row in counted], "s", color=QUIET,
              label="accuracy@1, candidates without a budget")  # fmt: skip
    for row in counted:
        axes.annotate(str(row["candidates"]), (row["ms"], row["accuracy@1"]), (0, -14), textcoords="offset points",
                      ha="center", color=QUIET)  # fmt: skip
    recall = next(row for row in result["orders"] if row["order"] == "recall")
    axes.plot([recall["ms"]], [recall["accuracy@1"]], "D", color=THEIRS, label="accuracy@1, recall alone")
    bm25 = next(row for row in result["orders"] if row["order"] == "bm25")
    axes.axhline(bm25["accuracy@1"], color=THEIRS, linewidth=1, label="accuracy@1, BM25")
    promise = result["promise"]
    axes.plot([point["ms"] for point in promise], [point["accuracy"] for point in promise], "*", color=PROMISE,
              markersize=13, label="the project's promise")  # fmt: skip
    axes.set(
        xscale="log", xlabel="milliseconds of a search, median", ylabel="accuracy",
        title=f"{result['workload']['name']}: {result['workload']['questions']} questions",
    )  # fmt: skip
    _plain_ticks(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)


def _latency(axes: Axes, result: Document) -> None:
    """Reranking's median with quartiles, the floors as lines."""
    systems = [(name, each["stages"]["rerank"]) for name, each in result["systems"].items()]
    _bars(axes, systems)
    for precision, ms in result["floor_ms"]["rerank"].items():
        axes.axvline(ms, color=PROMISE, linewidth=1, linestyle=":" if precision == "int8" else "--",
                     label=f"floor of the arithmetic, {precision}")  # fmt: skip
    axes.set(xlabel=f"milliseconds to rerank {result['workload']['candidates']} candidates, median and quartiles",
             title=f"{result['workload']['name']}")  # fmt: skip
    axes.legend(frameon=False, fontsize=8)


def _throughput(axes: Axes, result: Document) -> None:
    """Queries a second."""
    _bars(axes, [(name, each["per_second"]) for name, each in result["systems"].items()])
    axes.set(xlabel="queries a second, median and quartiles", title=result["workload"]["name"])


def _recall(axes: Axes, result: Document) -> None:
    """Recall against milliseconds, one point an index and size."""
    for number, (size, systems) in enumerate(result["sizes"].items()):
        for name, each in systems.items():
            color = OURS if name == "tandem" else THEIRS
            axes.plot(each["ms"]["p50"], each["recall"], "osD^v"[number % 5], color=color)
            axes.annotate(f"{name}, {int(size):,}", (each["ms"]["p50"], each["recall"]), (6, 4),
                          textcoords="offset points", fontsize=8, color=QUIET)  # fmt: skip
    axes.set(xscale="log", xlabel="milliseconds of one query, median", ylabel="recall@100",
             title="The 100 nearest vectors")  # fmt: skip
    axes.margins(x=0.2)
    found = [each["recall"] for systems in result["sizes"].values() for each in systems.values()]
    axes.set_ylim(min(0.95, min(found) - 0.01), 1.005)  # there is no recall above 1
    _plain_ticks(axes)


def _plain_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, systems: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in systems][::-1]
    values = [each["p50"] for _, each in systems][::-1]
    low = [each["p50"] - each["p25"] for _, each in systems][::-1]
    high = [each["p75"] - each["p50"] for _, each in systems][::-1]
    colors = [OURS if name.startswith("tandem") else THEIRS for name in names]
    axes.barh(names, values, xerr=[low, high], color=colors, ecolor=QUIET, capsize=3)


PLOTS: dict[str, Callable[[Axes, Document], None]] = {
    "quality": _quality,
    "latency": _latency,
    "throughput": _throughput,
    "recall": _recall,
}
