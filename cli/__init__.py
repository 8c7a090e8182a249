"""The `tandem` command: one thin file a command, heavy imports inside the commands."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from ..engine.errors import StorageError, TandemError
from . import bench, calibrate, demo, evaluate, export, finetune, index, info, search, serve, verify
from .console import err

app = typer.Typer(
    name="tandem",
    help="Two-stage retrieval on one machine: bi-encoder recall, cross-encoder rerank, inside a time budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (demo, export, verify, index, search, serve, info, evaluate, calibrate, finetune):
    app.command(module.NAME)(module.command)
app.add_typer(bench.app, name="bench")


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Options of every command; `main` reads --debug itself, since it prints the errors."""


def main() -> None:
    """Run the command line: an error of ours is one sentence on stderr and its class's exit code."""
    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except TandemError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if debug:
            raise
        _fail(f"{error}; install the part of Tandem that needs it, as in pip install 'tandem[{_extra(error.name)}]'", 1)
    except OSError as error:
        if debug:
            raise
        _fail(str(error), StorageError.exit_code)


def _fail(message: str, code: int) -> NoReturn:
    err().print(f"error: {message}", style="red", soft_wrap=True)
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
