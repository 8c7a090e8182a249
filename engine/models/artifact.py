"""An exported model on disk: its manifest, and the checks that stand between a folder and an engine.

config.json  tokenizer.json  model.safetensors          as on the Hugging Face Hub
onnx/model.onnx  onnx/model_fp16.onnx  onnx/model_quantized.onnx
manifest.json                                            what the files are, their sha256, how far they were proven
early/                                                   a cross-encoder's early exit: an artifact of its own
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArtifactError
from ..platform.durable_io import sha256
from ..recall.planning import Similarity
from ..scoring.fusion import Fusion
from ..text.prompting import PairText, Prompting, Prompts
from ..text.tokenizer import Tokenizer
from ..text.tokens import CutSide
from .checking import CONFIG, CONFIGS, check_configs, check_folder, read_config
from .external_data import external_files

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
EARLY = "early"
LONGEST = 2**20
"""Tokens that no encoder reads: a larger `max_length` is a mistake that would be paid for in memory."""
Kind = Literal["bi-encoder", "cross-encoder"]
Precision = Literal["fp32", "fp16", "int8"]
VARIANT_FILES: dict[Precision, str] = {
    "fp32": "onnx/model.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "int8": "onnx/model_quantized.onnx",
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRecord(_Record):
    """Where the weights came from."""

    name: str
    revision: str | None = None
    adapter: str | None = None
    """Name and sha256 of a LoRA adapter merged into the weights."""


class Parity(_Record):
    """How far a variant's outputs are from the PyTorch FP32 model's, on real text."""

    samples: int
    """Texts (bi-encoder) or pairs (cross-encoder) compared."""
    max_error: float
    """Largest absolute difference: of a cosine for a bi-encoder, of a logit for a cross-encoder."""
    mean_error: float
    top10_overlap: float
    """Mean share of the reference's 10 best that are among the variant's 10 best."""
    kendall_tau: float


class Variant(_Record):
    """One ONNX graph: ids to `sentence_embedding` [n, dimension], of length 1 under the cosine, or to `score` [n]."""

    file: str
    parity: Parity
    fused: dict[str, int] = Field(default_factory=dict)
    """Fused operators in the graph and how often each occurs."""


class ModelSize(_Record):
    """What a model's memory and time depend on."""

    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    width: int = Field(gt=0)
    """Numbers of a token's hidden state."""
    wide: int = Field(gt=0)
    """Numbers of it inside a feed-forward."""


class FileRecord(_Record):
    sha256: str
    size: int


class ArtifactManifest(_Record):
    """What an artifact says of itself; unknown keys are errors."""

    format: Literal[2] = 2
    kind: Kind
    name: str
    source: SourceRecord
    family: str
    max_length: int = Field(gt=0, le=LONGEST)
    segments: bool
    pad_id: int
    size: ModelSize
    dimension: int | None = None
    """Numbers of a bi-encoder's vector."""
    pooling: str | None = None
    """How a bi-encoder joins its token vectors, which its graphs do themselves; None: by more than one pooling."""
    prompts: Prompts = Prompts()
    pair_text: PairText | None = None
    """Of a cross-encoder that is a decoder: what it reads. None: query and passage between the special tokens."""
    cut_side: CutSide = "right"
    """Where texts that are too long are cut, where a request does not say it."""
    similarity: Similarity = "cosine"
    """How a bi-encoder's vectors are compared; dot: they are not of length 1."""
    activation: Literal["identity", "sigmoid"] = "identity"
    fusion: Fusion = Fusion()
    early: int | None = Field(default=None, gt=0)
    """The layer after which the artifact in `early/` gives its logit: the same layers, and a head of its own."""
    exit_after: int | None = Field(default=None, gt=0)
    """Of the artifact in `early/`: the layer that it ends after. None: a whole model."""
    variants: dict[Precision, Variant]
    files: dict[str, FileRecord]
    opset: int
    tools: dict[str, str]

    @property
    def prompting(self) -> Prompting:
        """What goes around a text before the model reads it."""
        return Prompting(self.name, self.prompts, self.pair_text)


# What an early exit reads as the whole model does.
_SHARED = ("family", "max_length", "segments", "pad_id", "activation", "cut_side")


class Artifact:
    """An exported model whose folder was checked: manifest readable, no links, nothing unsafe, sizes as recorded."""

    def __init__(self, path: Path, manifest: ArtifactManifest, fingerprint: str) -> None:
        self.path = path
        self.manifest = manifest
        self.fingerprint = fingerprint
        """sha256 of `manifest.json`, which holds the sha256 of every other file."""

    @classmethod
    def open(cls, path: str | Path, *, kind: Kind | None = None) -> Artifact:
        """Read and check the folder `path`; contents are hashed by `verify`.

        Raises ArtifactError when it is missing, damaged, unsafe or not of `kind`.
        """
        path = Path(path)
        data = _read_manifest(path)
        try:
            manifest = ArtifactManifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            message = f"{path / MANIFEST} is not a manifest this version reads ({where}: {first['msg']}); export again"
            raise ArtifactError(message) from error
        if kind is not None and manifest.kind != kind:
            raise ArtifactError(f"{path} holds a {manifest.kind}, but a {kind} is needed here")
        check_folder(path, {name: record.size for name, record in manifest.files.items()})
        artifact = cls(path, manifest, hashlib.sha256(data).hexdigest())
        check_configs(
            path, {name: artifact._config(name) for name in CONFIGS if name in manifest.files}, manifest.max_length
        )
        return artifact

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Hash the files `names` and compare with the manifest; default: all, and what the graphs refer to.

        Raises ArtifactError on a difference, or when a graph refers to a file that the manifest does not name.
        """
        for name in self.manifest.files if names is None else names:
            record = self.manifest.files.get(name)
            if record is None:
                raise ArtifactError(f"{self.path / name} is not in the artifact's manifest; export again")
            if sha256(self.path / name) != record.sha256:
                raise ArtifactError(f"{self.path / name} is damaged: its sha256 is not the manifest's; export again")
        for variant in self.manifest.variants.values() if names is None else ():
            external_files(self.path, variant.file, self.manifest.files)

    def graph(self, precision: Precision) -> Path:
        """The verified ONNX file of a precision, and whatever holds its weights.

        Raises ArtifactError when the artifact has none, or one that reads files that the manifest does not name.
        """
        variant = self.manifest.variants.get(precision)
        if variant is None:
            have = ", ".join(self.manifest.variants)
            raise ArtifactError(f"{self.path} has no {precision} variant, only {have}")
        self.verify([variant.file])
        self.verify(external_files(self.path, variant.file, self.manifest.files))
        return self.path / variant.file

    def early(self) -> Artifact | None:
        """The cross-encoder that ends after layer `manifest.early`, its manifest verified; None where there is none."""
        if self.manifest.early is None:
            return None
        self.verify([f"{EARLY}/{MANIFEST}"])
        found = Artifact.open(self.path / EARLY, kind=self.manifest.kind)
        mine, its = self.manifest, found.manifest
        same = all(getattr(its, name) == getattr(mine, name) for name in _SHARED)
        same = same and its.files.get("tokenizer.json") == mine.files.get("tokenizer.json")
        if its.exit_after != mine.early or not same:
            raise ArtifactError(
                f"{found.path} is no exit after layer {self.manifest.early} of this model; export again"
            )
        return found

    def architecture(self) -> dict[str, Any]:
        """The verified `config.json`: layers, widths, heads."""
        return self._config(CONFIG)

    def _config(self, name: str) -> dict[str, Any]:
        self.verify([name])
        return read_config(self.path / name)

    def tokenizer(self, limit: int | None = None) -> Tokenizer:
        """The verified tokenizer, read once; with a `limit` another, whose sequences have at most so many tokens."""
        return self._tokenizer if limit is None else self._read_tokenizer(min(limit, self.manifest.max_length))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._read_tokenizer(self.manifest.max_length)

    def _read_tokenizer(self, max_length: int) -> Tokenizer:
        self.verify(["tokenizer.json"])
        manifest = self.manifest
        return Tokenizer(
            self.path / "tokenizer.json",
            max_length=max_length,
            segments=manifest.segments,
            prompting=manifest.prompting,
            side=manifest.cut_side,
        )


def _read_manifest(path: Path) -> bytes:
    if not path.is_dir():
        raise ArtifactError(f"{path} is not a folder; make an artifact with `tandem export MODEL --out {path}`")
    if not (path / MANIFEST).is_file():
        raise ArtifactError(f"{path} has no {MANIFEST}; make an artifact with `tandem export MODEL --out FOLDER`")
    return (path / MANIFEST).read_bytes()
