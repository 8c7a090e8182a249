"""Where a model comes from: a bundled name, a local folder or the Hugging Face Hub; and what is refused at the door."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..bundled import BUNDLED
from ..families import FAMILIES
from .files import read_json, refuse_pointers
from .hub import HUB_ID, PICKLED, SAFE, download
from .layout import transformer_folder

# What a tokenizer is read from.
_TOKENIZER = ("*.json", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Origin:
    """A model's folder on this machine, and the adapter to merge into it.

    trusted: Python code in the folder may be run
    """

    name: str
    folder: Path
    revision: str | None = None
    adapter: Path | None = None
    trusted: bool = False

    @property
    def trained(self) -> Path:
        """Where the record and the early exits of a trained reranker are, if it has any."""
        return self.adapter or self.folder


def resolve(
    source: str, kind: Kind, *, revision: str | None, adapter: Path | None, trust_remote_code: bool = False
) -> Origin:
    """The folder behind `source`: a bundled name, an existing folder, or else a Hub id (downloaded or from its cache).

    Raises ExportError when there is no such model, when it is of a family that is not supported, or when it brings
    Python code and `trust_remote_code` does not allow that.
    """
    if source in BUNDLED:
        bundled = BUNDLED[source]
        if adapter is None and kind != bundled.kind:
            raise ExportError(f"{source} is a {bundled.kind}; export it with --as {bundled.kind}")
        origin = Origin(source, bundled.folder(), None, adapter or bundled.adapter)
    elif source and Path(source).is_dir():
        origin = Origin(Path(source).resolve().name, Path(source), revision, adapter, trust_remote_code)
    elif source and Path(source).is_file():
        raise ExportError(f"{source} is a file; give the folder of a model")
    elif HUB_ID.fullmatch(source):
        folder, commit = download(source, revision, code=trust_remote_code)
        origin = Origin(source, folder, commit, adapter, trust_remote_code)
    else:
        raise ExportError(f"{source!r} is neither a folder nor a Hugging Face id nor one of {', '.join(BUNDLED)}")
    # An adapter makes a cross-encoder of a bi-encoder, or of what one is built on.
    _refuse(origin, "bi-encoder" if origin.adapter is not None else kind)
    return origin


def _refuse(origin: Origin, kind: Kind) -> None:
    folder = transformer_folder(origin.folder, kind)
    config = read_json(folder, "config.json")
    adapter = (folder / "adapter_config.json").is_file()
    if config is None and adapter:
        raise ExportError(
            f"{origin.name} is an adapter (adapter_config.json) and no whole model; export the model that it was "
            f"trained on, with --adapter {origin.folder}"
        )
    if config is None:
        raise ExportError(f"{folder} has no config.json: it holds no Hugging Face model")
    if adapter:
        raise ExportError(
            f"{origin.name} has an adapter beside its weights (adapter_config.json); move the adapter to a folder of "
            "its own and give it with --adapter, or merge it first"
        )
    _refuse_family(origin, folder, config.get("model_type"))
    weights = [*folder.glob(SAFE)] or [*folder.glob(PICKLED)]
    if not weights:
        raise ExportError(f"{folder} has no weights (*.safetensors, or pytorch_model.bin); take a complete copy")
    refuse_pointers([*weights, *(path for pattern in _TOKENIZER for path in sorted(folder.glob(pattern)))])


def _refuse_family(origin: Origin, folder: Path, family: object) -> None:
    """Code is looked for only where transformers does not have the model itself."""
    if family in FAMILIES:
        return
    own_code = [name for name in ("config.json", "tokenizer_config.json") if _auto_map(folder, name)]
    if not own_code:
        known = ", ".join(sorted(FAMILIES))
        raise ExportError(f"{origin.name} is of the family {family!r}; supported are {known}")
    if not origin.trusted:
        raise ExportError(
            f"{origin.name} brings its own Python code (auto_map in {own_code[0]}), which is not run; if you trust its "
            "authors, export with --trust-remote-code"
        )


def _auto_map(folder: Path, name: str) -> bool:
    return "auto_map" in (read_json(folder, name) or {})
