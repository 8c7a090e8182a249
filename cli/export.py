"""tandem export: a model → an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from ..engine.models.artifact import Kind, Precision
from ..export.source.wishes import Pooling, Wishes
from .console import note, out, waiting

if TYPE_CHECKING:
    from ..engine.models.artifact import Artifact

NAME = "export"
EXAMPLES = (
    "tandem export minilm-l6 --as bi-encoder --out models/encoder",
    "tandem export minilm-l6-reranker --as cross-encoder --out models/reranker",
)


def command(
    model: str = typer.Argument(
        help="A Hugging Face id, a local folder, or a bundled name: minilm-l6, minilm-l6-reranker."
    ),
    kind: Kind = typer.Option(
        ...,
        "--as",
        help="bi-encoder: one text to one vector, for indexing and recall; cross-encoder: a question with a passage "
        "to a score, for reranking.",
    ),
    output: Path = typer.Option(..., "--out", help="The artifact's folder."),
    adapter: Path | None = typer.Option(
        None, help="A LoRA adapter folder (from `tandem finetune` or PEFT), merged in."
    ),
    revision: str | None = typer.Option(None, help="The Hub's revision: a commit id keeps the export repeatable."),
    early_exit: int | None = typer.Option(
        None,
        min=0,
        help="Early exit that goes along: after this layer (default: the adapter's last in the first half; 0: none).",
    ),
    query_prompt: str | None = typer.Option(
        None, help="Text put before each question (default: what the model's files say)."
    ),
    passage_prompt: str | None = typer.Option(None, help="Text put before each passage (default: likewise)."),
    pooling: Pooling | None = typer.Option(
        None, help="How token vectors become one, for an encoder whose files do not say it (no modules.json)."
    ),
    max_length: int | None = typer.Option(
        None, min=4, help="Tokens that are read at most (default: what the model's files say)."
    ),
    dimensions: int | None = typer.Option(
        None, min=1, help="Keep the first so many numbers of each vector: for models trained for it (Matryoshka)."
    ),
    trust_remote_code: bool = typer.Option(
        False, "--trust-remote-code", help="Run Python code that the model brings, during this export only."
    ),
    precisions: str = typer.Option(
        "fp32,fp16,int8", help="Precisions to write, separated by commas: fp32 exact, fp16 for a GPU, int8 for a CPU."
    ),
) -> None:
    """Make a model ready for search: ONNX in several precisions, each held against sentence-transformers on text."""
    from ..export import export_model

    variants = [cast(Precision, name.strip()) for name in precisions.split(",")]  # checked by export_model
    with waiting(f"exporting {model}: about a minute on two cores for a small model"):
        artifact = export_model(
            model, kind, output, adapter=adapter, revision=revision, precisions=variants, early_exit=early_exit,
            wishes=Wishes(query_prompt, passage_prompt, pooling, max_length, dimensions),
            trust_remote_code=trust_remote_code, progress=note,
        )  # fmt: skip
    _show(artifact)
    if (early := artifact.early()) is not None:
        _show(early)


def _show(artifact: Artifact) -> None:
    manifest = artifact.manifest
    out().print(f"{artifact.path}: {manifest.kind} {manifest.name}, {manifest.max_length} tokens")
    for name, variant in manifest.variants.items():
        parity = variant.parity
        size = manifest.files[variant.file].size / 2**20
        out().print(
            f"  {name}  {size:6.1f} MiB  max error {parity.max_error:.2e}  mean {parity.mean_error:.2e}  "
            f"top-10 overlap {parity.top10_overlap:.3f}  Kendall tau {parity.kendall_tau:.3f}"
        )
