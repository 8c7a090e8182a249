"""The `tandem` command: one thin file a command, heavy imports inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import typer

from ..engine.errors import StorageError, TandemError
from . import (
    add,
    bench,
    calibrate,
    delete,
    demo,
    evaluate,
    export,
    finetune,
    index,
    info,
    merge,
    models,
    retokenize,
    search,
    serve,
    snapshot,
    verify,
)
from .console import complain, log_to_stderr, never_refuse
from .help import BEGIN, Commands, examples

app = typer.Typer(
    name="tandem",
    cls=Commands,
    help="Search in two stages on one machine: a bi-encoder finds candidates, a cross-encoder reads them and puts the "
    "best first, all within a time budget.",
    epilog=BEGIN,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    demo, models, export, index, add, delete, merge, retokenize, snapshot, search, serve, evaluate, calibrate, verify,
    info, finetune,
):  # fmt: skip
    app.command(module.NAME, epilog=examples(module))(module.command)
app.add_typer(bench.app, name="bench")


@app.callback()
def options(
    ctx: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Options of every command; `main` reads --debug itself, since it prints the errors."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """Run the command line: an error of the user's or of ours is one sentence on stderr and its class's exit code."""
    debug = "--debug" in sys.argv[1:]
    _end_when_asked()
    never_refuse()
    log_to_stderr()
    try:
        code = app(standalone_mode=False, prog_name="tandem")
    except Exception as error:
        if debug or (told := _told(error)) is None:
            raise
        _fail(*told)
    sys.exit(code)


def _end_when_asked() -> None:
    """The first process of a container ends at SIGTERM too: the kernel drops a signal that such a process handles not.

    A server takes the signal over when it serves, and drains.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _told(error: Exception) -> tuple[str, int] | None:
    """What to say of an error and the exit code; None for one that nobody foresaw, whose traceback is worth having."""
    match error:
        case TandemError():
            return f"error: {error}", error.exit_code
        case typer.TyperException():
            return _usage(error), error.exit_code
        case ModuleNotFoundError():
            part = _extra(error.name)
            return f"error: {error}; install the part of Tandem that needs it: pip install 'tandem[{part}]'", 1
        case OSError():
            what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
            return f"error: {what}", StorageError.exit_code
        case typer.Abort():
            return "aborted", 1
    return None


def _usage(error: typer.TyperException) -> str:
    """A wrong option, argument or command in one sentence that says where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context: Any = getattr(error, "ctx", None)  # only errors of parsing have one
    return f"error: {message}" + (f"; see {context.command_path} --help" if context is not None else "")


def _fail(message: str, code: int) -> NoReturn:
    complain(message)
    sys.exit(code)


def _extra(module: str | None) -> str:
    """The extra that brings a module."""
    extras = {
        "onnxruntime": "cpu",
        "faiss": "cpu",
        "ir_measures": "bench",
        "matplotlib": "bench",
        "bm25s": "bench",
        "fastapi": "serve",
        "uvicorn": "serve",
        "triton": "gpu",
    }
    return extras.get((module or "").split(".")[0], "export")
