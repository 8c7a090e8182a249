"""tandem bench: how fast and how good, beside rivals and the floor."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from . import bench_collection, bench_machine

app = typer.Typer(
    help="Measure beside rivals and the floor, with fixed seeds. A table on stderr; the last line of stdout is JSON.",
    no_args_is_help=True,
)


@app.callback()
def group(context: typer.Context) -> None:
    """Before any benchmark makes its own load."""
    from ..bench.environment import begin

    before = signal.signal(signal.SIGTERM, _leave)
    context.call_on_close(lambda: signal.signal(signal.SIGTERM, before))
    begin()


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM as an exit of ours: children are ended, files written, temporary folders removed."""
    sys.exit(128 + number)


for name, command in sorted((bench_collection.COMMANDS | bench_machine.COMMANDS).items()):
    app.command(name)(command)
