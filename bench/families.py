"""Which families of models are exported, and how near their graphs are to sentence-transformers: a table for the docs.

Each family by a small random model, which is where a mistake in a graph shows most: every operator matters alike. What
INT8 costs a trained model is proven at that model's own export.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..engine.collection.report import Progress, silent
from ..engine.errors import ExportError
from ..engine.models.artifact import Artifact, Kind
from ..engine.models.runtime.select import shape_problem
from ..export.families import FAMILIES
from ..export.parity.samples import docstrings
from .document import Document, Row, document, grid
from .random_models.families import NO_CLASSIFIER, write_repository

MEASURES = "each family exported: its largest error against sentence-transformers, and INT8's agreement in order"
TEXTS = 60
KINDS: tuple[Kind, ...] = ("bi-encoder", "cross-encoder")


def families(*, only: str = "", progress: Progress = silent) -> Document:
    """Export a random model of each family whose name contains `only`, as both kinds."""
    wanted = [(name, kind) for name in FAMILIES if only in name for kind in KINDS]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tandem-families-") as scratch:
        for place, (name, kind) in enumerate(wanted):
            progress(place, len(wanted), f"{name}, {kind}")
            rows.append(_row(Path(scratch) / f"{name}-{kind}", name, kind))
    notes = [
        "small random models; error: the largest of a similarity or a score against sentence-transformers in FP32; "
        "tau: Kendall's, of the order against the same",
        "packed: the family runs without padding on a GPU; it was compared with transformers on a CPU only",
    ]
    return document(
        "families", MEASURES, workload={"texts": TEXTS}, tables=[grid("Families of models", rows, notes)], rows=rows
    )


def _row(folder: Path, name: str, kind: Kind) -> Row:
    from ..export import export_model

    row: Row = {"family": FAMILIES[name].name, "model_type": name, "kind": kind}
    if kind == "cross-encoder" and name in NO_CLASSIFIER:
        return {**row, "exports": "transformers has none"}
    try:
        source = write_repository(folder / "source", name, kind)
        artifact = export_model(str(source), kind, folder / "artifact", texts=docstrings()[:TEXTS])
    except ExportError as error:
        return {**row, "exports": f"no: {error}"}
    variants = artifact.manifest.variants
    errors = {f"{name} error": variants[name].parity.max_error for name in ("fp32", "fp16") if name in variants}
    tau = variants["int8"].parity.kendall_tau if "int8" in variants else None
    return {**row, "exports": "yes", **errors, "int8 tau": tau, "packed": _packed(artifact)}


def _packed(artifact: Artifact) -> str:
    return "yes" if shape_problem(artifact) is None else "no"
