"""tandem bench: how fast and how good, beside rivals and the floor."""

from __future__ import annotations

import typer

from . import bench_collection, bench_machine

app = typer.Typer(
    help="Measure beside rivals and the floor, with fixed seeds. A table on stderr; the last line of stdout is JSON.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Before any benchmark makes its own load."""
    from ..bench.environment import begin

    begin()


for name, command in sorted((bench_collection.COMMANDS | bench_machine.COMMANDS).items()):
    app.command(name)(command)
