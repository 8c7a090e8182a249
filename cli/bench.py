"""tandem bench: how fast and how good, beside rivals and the floor."""

from __future__ import annotations

from importlib import import_module

import typer

app = typer.Typer(
    help="Measure beside rivals and the floor, with fixed seeds. A table on stderr; the last line of stdout is JSON.",
    no_args_is_help=True,
)
# One line a sub-command: NAME is the function `command` of cli/bench_NAME.py.
SUBCOMMANDS = (
    "export",
    "gpu",
    "index",
    "kernels",
    "latency",
    "quality",
    "recall",
    "report",
    "rivals",
    "serve",
    "throughput",
)


@app.callback()
def group() -> None:
    """Before any benchmark makes its own load."""
    from ..bench.environment import begin

    begin()


for name in SUBCOMMANDS:
    app.command(name)(import_module(f".bench_{name}", __package__).command)
