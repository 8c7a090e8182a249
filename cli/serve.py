"""tandem serve: the engine over HTTP."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import typer

from ..engine.config import EngineOptions
from ..engine.errors import InputError
from .options import ENCODER, RERANKER, with_options

NAME = "serve"
EXAMPLES = (
    "tandem serve collection",
    "tandem serve collection --host 0.0.0.0 --port 80 --api-key-file keys.txt",
)


@with_options(EngineOptions, panel="Engine")
def command(
    given: dict[str, Any],
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    config: Path | None = typer.Option(None, help="A TOML file with any setting of the server."),
    host: str | None = typer.Option(None, help="Address to listen on (default: 127.0.0.1; others need a key)."),
    port: int | None = typer.Option(None, help="Port (default: 8080)."),
    admin_port: str | None = typer.Option(
        None, help="Port of the second listener, for metrics, reload and drain (default: 9000), or none."
    ),
    api_key_file: Path | None = typer.Option(None, help="A file with one bearer key a line."),
    supervise: bool | None = typer.Option(
        None, "--supervise/--no-supervise", help="Run the engine in a worker process that is replaced when it dies."
    ),
    timeout_ms: float | None = typer.Option(None, help="Longest that a request may take (default: 30000)."),
    encoder: Path | None = typer.Option(None, help=ENCODER),
    reranker: Path | None = typer.Option(None, help=RERANKER),
) -> None:
    """Serve a collection over HTTP: search, and the dialects of TEI, Cohere, Jina, OpenAI, vLLM, NIM and Weaviate.

    Every setting can stand in the TOML file or in a variable TANDEM_NAME too; a flag wins, then the variable.
    """
    try:
        from ..engine.server import logs
        from ..engine.server.run import serve
        from ..engine.server.settings import ServerSettings, unknown_variables
    except ImportError as error:
        raise InputError(f"serving needs more libraries ({error}): pip install 'tandem[serve]'") from error
    settings = ServerSettings.load(
        config, given, host=host, port=port, admin_port=admin_port, api_key_file=api_key_file, timeout_ms=timeout_ms,
        supervise=supervise, encoder=encoder, reranker=reranker,
    )  # fmt: skip
    logs.set_up()
    for name in unknown_variables():
        logging.getLogger(__name__).warning("a variable sets nothing", extra={"variable": name})
    serve(collection, settings)
