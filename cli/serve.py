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
    "tandem serve notes manuals=/data/manuals/collection",
    "tandem serve --model minilm=/data/models/minilm --model reranker=/data/models/reranker",
    "tandem serve collection --host 0.0.0.0 --port 80 --api-key-file keys.txt",
)


@with_options(EngineOptions, panel="Engine")
def command(
    given: dict[str, Any],
    collections: list[str] = typer.Argument(
        None,
        metavar="[COLLECTION]...",
        help="Folders that `tandem index` made, each served under its folder's name, "
        "or as NAME=FOLDER; the first answers who names none.",
    ),
    config: Path | None = typer.Option(None, help="A TOML file with any setting of the server."),
    host: str | None = typer.Option(None, help="Address to listen on (default: 127.0.0.1; others need a key)."),
    port: int | None = typer.Option(None, help="Port (default: 8080)."),
    admin_port: str | None = typer.Option(
        None, help="Port of the second listener, for metrics, reload and drain (default: 9000), or none."
    ),
    grpc_port: int | None = typer.Option(None, help="Port of a listener for gRPC (default: none)."),
    api_key_file: Path | None = typer.Option(None, help="A file with one bearer key a line."),
    workers: int | None = typer.Option(
        None, help="Processes that compute, each with the models (default: one a GPU, or one on a CPU)."
    ),
    supervise: bool | None = typer.Option(
        None, "--supervise/--no-supervise", help="Run the engine in a worker process that is replaced when it dies."
    ),
    timeout_ms: float | None = typer.Option(None, help="Longest that a request may take (default: 30000)."),
    collections_folder: Path | None = typer.Option(
        None, help="A folder whose collections are all served, and in which /admin/collections makes and drops them."
    ),
    model: list[str] = typer.Option(
        [], metavar="NAME=FOLDER", help="A model by itself, which requests choose by its name; repeat for several."
    ),
    encoder: Path | None = typer.Option(None, help=ENCODER),
    reranker: Path | None = typer.Option(None, help=RERANKER),
) -> None:
    """Serve collections over HTTP: search, and the dialects of TEI, Cohere, Jina, OpenAI, vLLM, NIM and Weaviate.

    Every setting can stand in the TOML file or in a variable TANDEM_NAME too; a flag wins, then the variable.
    """
    try:
        from ..engine.server import logs
        from ..engine.server.run import serve
        from ..engine.server.settings import ServerSettings, unknown_variables
    except ImportError as error:
        raise InputError(f"serving needs more libraries ({error}): pip install 'tandem[serve]'") from error
    settings = ServerSettings.load(
        config, given, host=host, port=port, admin_port=admin_port, grpc_port=grpc_port, api_key_file=api_key_file,
        timeout_ms=timeout_ms, supervise=supervise, workers=workers, collections_folder=collections_folder,
        models=_models(model) or None, encoder=encoder, reranker=reranker,
    )  # fmt: skip
    logs.set_up()
    for name in unknown_variables():
        logging.getLogger(__name__).warning("a variable sets nothing", extra={"variable": name})
    named = _by_name(collections or [])
    if not named and settings.collections_folder is None and not settings.models:
        raise InputError("name a collection to serve, a folder of them (--collections-folder) or a model (--model)")
    serve(named, settings)


def _models(given: list[str]) -> dict[str, Path]:
    """Folders of models by name; raises InputError for one without a name, and for two of one name."""
    found: dict[str, Path] = {}
    for each in given:
        name, named, folder = each.partition("=")
        if not name or not named or not folder:
            raise InputError(f"{each}: a model needs a name; write NAME=FOLDER")
        if name in found:
            raise InputError(f"two models are called {name}; give one another name")
        found[name] = Path(folder)
    return found


def _by_name(given: list[str]) -> dict[str, Path]:
    """The folders by the names that they are served under; raises InputError where two have one name."""
    found: dict[str, Path] = {}
    for each in given:
        name, named, folder = each.partition("=")
        path = Path(folder) if named and not Path(each).exists() else Path(each)
        name = name if path == Path(folder) and named else path.resolve().name
        if not name or "/" in name:
            raise InputError(f"{each}: a collection needs a name without a slash; write NAME=FOLDER")
        if name in found:
            raise InputError(f"two collections are called {name}; give one another name: NAME={path}")
        found[name] = path
    return found
