"""`tandem info` for people: what a model, a collection, a machine or a plan of memory is, on one page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..engine.collection import Collection, CollectionManifest
from ..engine.models.artifact import Artifact
from ..engine.recall import IndexPlan
from .text import human_bytes, visible

READS = {
    "bi-encoder": "turns one text into one vector",
    "cross-encoder": "reads a question with a passage and gives one score",
}
RUNS = {"fp32": "exact, on any machine", "fp16": "fast on a GPU", "int8": "fast on a CPU"}
"""What each precision is for."""
PARTS = {
    "vectors": "vectors and index", "tokens": "token ids for the cross-encoder", "lexicon": "word counts",
    "lexical": "index of words",
    "texts": "texts", "titles": "titles", "ids": "ids", "places": "places in documents", "metadata": "metadata",
    "facets": "metadata, sorted for filters", "contents": "hashes of documents", "deleted": "what is deleted",
}  # fmt: skip
"""What a collection's files hold, by the first part of their names."""
OTHER = "vectors and index"
FIELDS = 40
"""Fields of the metadata that a page names at most; --json has them all."""


def artifact_page(artifact: Artifact) -> Group:
    """A model: what it is, where it came from, and its precisions with how far each is from PyTorch."""
    manifest = artifact.manifest
    rows = [
        ("kind", f"{manifest.kind}: {READS[manifest.kind]}"),
        ("folder", str(artifact.path)),
        (
            "made from",
            " + ".join(filter(None, (manifest.source.name, manifest.source.revision, manifest.source.adapter))),
        ),
        ("reads", f"up to {manifest.max_length:,} tokens ({manifest.family})"),
    ]
    if manifest.dimension is not None:
        compared = "the cosine" if manifest.similarity == "cosine" else "the dot product"
        rows.append(("vectors", f"{manifest.dimension} numbers, compared by {compared}"))
    prompts = {"query": manifest.prompts.query, "passage": manifest.prompts.passage}
    rows += [(f"before a {name}", repr(prompt)) for name, prompt in prompts.items() if prompt]
    if manifest.prompts.named:
        rows.append(("its own prompts", ", ".join(f"{name} {text!r}" for name, text in manifest.prompts.named.items())))
    if manifest.prompting.takes_instruction:
        template = manifest.pair_text
        usual = manifest.prompts.query if template is None else template.instruction
        rows.append(("takes an instruction", f"{usual!r} where none is given"))
    if manifest.kind == "cross-encoder":
        weights = manifest.fusion
        rows.append(
            ("order", f"its score + {weights.recall_weight:.2f} × (similarity + {weights.lexical_weight:.2f} × words)")
        )
    if manifest.early is not None:
        rows.append(("early exit", f"after layer {manifest.early}: a first, cheaper reading where many are read"))
    size = sum(record.size for record in manifest.files.values())
    rows += [
        ("size", f"{human_bytes(size)} in {len(manifest.files)} files"),
        ("made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())),
        ("fingerprint", artifact.fingerprint),
    ]
    return Group(_heading(manifest.name), _facts(rows), "", _precisions(artifact))


def collection_page(collection: Collection) -> Group:
    """A collection: how much it holds, how it was cut, its models and what lies on the disk."""
    manifest, settings = collection.manifest, collection.manifest.settings
    counts, index = manifest.counts, manifest.largest
    cut = (
        f"at most {manifest.chunk_tokens} tokens, {settings.overlap} shared by neighbours"
        if manifest.chunk_tokens
        else "never"
    )
    titled = [
        name
        for name, wanted in (("bi-encoder", settings.encode_title), ("cross-encoder", settings.rerank_title))
        if wanted
    ]
    rows = [
        ("folder", str(collection.path)),
        ("version", manifest.version),
        (
            "documents",
            f"{counts.documents:,}" + (f" ({counts.skipped:,} unusable ones passed over)" if counts.skipped else ""),
        ),
        ("passages", f"{counts.passages:,}"),
        ("cut", cut),
        (
            "titles",
            f"read before the passage by the {' and the '.join(titled)}" if titled else "not read by the models",
        ),
        ("compared by", "cosine" if manifest.similarity == "cosine" else "dot product"),
        ("segments", _segments(manifest)),
        *_index(index),
        (
            "words",
            f"indexed, of the language {manifest.language}"
            if manifest.language
            else "not indexed: recall is by vectors",
        ),
    ]
    if fields := list(collection.facets.fields):
        shown = ", ".join(f"{name} ({_type(collection, name)})" for name in fields[:FIELDS])
        rows.append(("fields", shown + (f" and {len(fields) - FIELDS:,} more" if len(fields) > FIELDS else "")))
    return Group(_heading(manifest.source), _facts(rows), "", _models(collection), "", _parts(collection))


def _segments(manifest: CollectionManifest) -> str:
    """How many there are, and what of them is deleted."""
    deleted = sum(segment.deleted for segment in manifest.segments)
    marked = f"; {deleted:,} passages are deleted, which a merge takes out" if deleted else ""
    return f"{len(manifest.segments)}{marked}"


def _index(index: IndexPlan | None) -> list[tuple[str, str]]:
    """How the largest segment is searched."""
    if index is None:
        return []
    return [
        ("index", f"{index.kind} ({index.reason})"),
        ("recall@100", f"{index.recall_at_100:.3f} ({index.measured_on})"),
    ]


def _type(collection: Collection, field: str) -> str:
    """What the values of a metadata field are. A date is told apart from a text where the corpus was."""
    known = collection.manifest.field_types.get(field)
    return known or " and ".join(collection.facets.fields[field])


def memory_page(document: Mapping[str, Any]) -> Group:
    """How a collection and its models would lie in a GPU's memory."""
    named = {
        "gpu": "GPU", "encoder": "bi-encoder", "reranker": "cross-encoder", "recall": "recall", "pipeline": "pipeline",
    }  # fmt: skip
    rows = [(label, str(document[name])) for name, label in named.items() if name in document]
    table = Table("part", box=None, pad_edge=False, header_style="dim")
    table.add_column("memory", justify="right")
    for part, size in document["gib"].items():
        table.add_row(visible(part), _gib(size))
    table.add_section()
    table.add_row("in all", _gib(document["total_gib"]), style="bold")
    if document["available_gib"] is not None:
        table.add_row("there is", _gib(document["available_gib"]))
    fits = {True: "it fits", False: f"it does not fit: {document['problem']}", None: "no GPU is here to compare with"}
    return Group(_heading("Memory on a GPU"), _facts(rows), "", table, "", visible(fits[document["fits"]]))


def machine_page(document: Mapping[str, Any]) -> Group:
    """What models would run on here, and why."""
    named = {
        "device": "device", "reason": "because", "threads": "CPU threads", "gpu": "GPU",
        "packed_runtime": "packed runtime", "faiss_gpu": "FAISS on a GPU", "onnxruntime": "ONNX Runtime",
        "providers": "its providers", "faiss": "FAISS",
    }  # fmt: skip
    values = {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in document.items()}
    return Group(_heading("This machine"), _facts((label, values[name]) for name, label in named.items()))


def _precisions(artifact: Artifact) -> Table:
    manifest = artifact.manifest
    table = Table("precision", "on disk", "what for", box=None, pad_edge=False, header_style="dim")
    for heading in ("max error", "same top 10", "Kendall tau"):
        table.add_column(heading, justify="right")
    for name, variant in manifest.variants.items():
        parity = variant.parity
        size = sum(record.size for file, record in manifest.files.items() if file.startswith(variant.file))
        table.add_row(
            name, human_bytes(size), RUNS[name], f"{parity.max_error:.1e}", f"{parity.top10_overlap:.3f}",
            f"{parity.kendall_tau:.3f}",
        )  # fmt: skip
    return table


def _models(collection: Collection) -> Table:
    table = Table("role", "model", "precision", box=None, pad_edge=False, header_style="dim")
    table.add_column("folder", overflow="fold")
    models = collection.manifest.models
    for role, record in (("bi-encoder", models.encoder), ("cross-encoder", models.reranker)):
        if record is None:
            table.add_row(role, "none of its own; --reranker takes any")
            continue
        folder = collection.path / record.path
        missing = "" if folder.is_dir() else " (is not there)"
        table.add_row(role, visible(record.name), record.precision or "–", visible(os.path.relpath(folder)) + missing)
    return table


def _parts(collection: Collection) -> Table:
    sizes: dict[str, int] = {}
    for name, record in collection.manifest.files.items():
        part = PARTS.get(name.rpartition("/")[2].split(".")[0], OTHER)
        sizes[part] = sizes.get(part, 0) + record.size
    passages = max(len(collection), 1)
    table = Table("on disk, read as needed", box=None, pad_edge=False, header_style="dim")
    table.add_column("size", justify="right")
    table.add_column("a passage", justify="right")
    for part, size in sorted(sizes.items(), key=lambda item: -item[1]):
        table.add_row(part, human_bytes(size), human_bytes(size / passages))
    total = sum(sizes.values())
    table.add_row("in all", human_bytes(total), human_bytes(total / passages), style="bold")
    return table


def _heading(text: str) -> Text:
    return Text(visible(text) + "\n", "bold")


def _facts(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(visible(label), visible(value))
    return table


def _gib(size: float) -> str:
    return f"{size:.2f} GiB" if size >= 1 else f"{size * 1024:.0f} MiB"
