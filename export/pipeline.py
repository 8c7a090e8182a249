"""From a model to an artifact: load, trace, fuse, lower the precision, prove, write."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from transformers import AutoTokenizer

from ..engine.errors import ExportError
from ..engine.models.artifact import (
    EARLY,
    MANIFEST,
    VARIANT_FILES,
    Artifact,
    ArtifactManifest,
    FileRecord,
    Kind,
    Parity,
    Precision,
    SourceRecord,
    Variant,
)
from ..engine.platform.durable_io import sha256, write_durably
from ..engine.scoring.fusion import Fusion
from ..engine.text.tokenizer import Tokenizer
from .bundled import adapter_mark
from .finetune.record import read_record
from .graph.first_token import NAME as FIRST_TOKEN
from .graph.first_token import keep_first_token
from .graph.fuse import Target, counts, fuse
from .graph.graph_file import save_graph
from .graph.outliers import NAME as OUTLIERS
from .graph.outliers import Run, split_outliers
from .graph.precision import to_fp16, to_int8
from .graph.trace import OPSET, trace
from .parity.activations import outputs
from .parity.compare import compare, failures
from .parity.samples import FP16_CANDIDATES, FP16_QUERIES, Samples, sample
from .parity.scoring import Array, Usage, onnx_forward, scores
from .quiet import quiet
from .source import torch_model
from .source.resolve import Origin, resolve
from .source.usage_config import Reading, read
from .staging import staged

log = logging.getLogger(__name__)
TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "tokenizers")
# Sequences on which the largest activations are looked for: outlying channels are so on any text.
WATCHED = 40


class NotEqual(ExportError):
    """A graph does not compute what the model does that it came from."""


def export_model(
    source: str,
    kind: Kind,
    out: Path,
    *,
    adapter: Path | None = None,
    revision: str | None = None,
    precisions: Sequence[Precision] = ("fp32", "fp16", "int8"),
    early_exit: int | None = None,
    texts: Sequence[str] | None = None,
    queries: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Artifact:
    """Export `source` (Hub id, folder or bundled name) to the artifact folder `out`, and open it.

    adapter:    LoRA adapter folder merged into the weights (cross-encoder only)
    precisions: the variants to write; each is proven against PyTorch FP32 on `texts` and `queries` (default: the
                standard library's documentation strings) before anything appears at `out`
    early_exit: the layer of the early exit that goes along, as an artifact in the artifact; None: the adapter's last
                exit in the first half of the layers, where it has one that passes its check; 0: none
    progress:   called with one line a step

    Raises ExportError when the model is not supported or a variant fails its check, StorageError when the disk
    refuses; `out` is then as it was.
    """
    out = Path(out)
    say = progress or (lambda line: None)
    if kind not in get_args(Kind):
        raise ExportError(f"a model is exported as {' or '.join(get_args(Kind))}, not as {kind!r}")
    precisions = _ordered(precisions)
    origin = resolve(source, kind, revision=revision, adapter=adapter)
    reading = read(origin, kind)
    samples = sample(texts, queries)
    early = _exit_layer(origin, early_exit)
    with staged(out) as folder:
        write = partial(_write, origin, reading, kind, precisions, samples, say)
        if early is not None:
            say(f"the early exit after layer {early}:")
            try:
                write(folder / EARLY, layer=early)
            except NotEqual as error:
                if early_exit is not None:
                    raise
                # Nobody asked for it, and the model is whole without it.
                log.warning("the early exit after layer %d is left out: %s", early, error)
                shutil.rmtree(folder / EARLY)
                early = None
            say("the whole model:")
        write(folder, early=early)
    return Artifact.open(out, kind=kind)


def _exit_layer(origin: Origin, wanted: int | None) -> int | None:
    """The layer to exit after, None for no exit; raises ExportError when the adapter has no such exit."""
    if wanted == 0:
        return None
    record = read_record(origin.adapter) if origin.adapter else None
    layers = sorted(record.exits) if record else []
    if wanted is None:
        return max((layer for layer in layers if record and 2 * layer <= record.base.layers), default=None)
    if wanted not in layers:
        have = f"has exits after layers {', '.join(map(str, layers))}" if layers else "has no early exits"
        raise ExportError(f"{origin.name} {have}, none after layer {wanted}; leave --early-exit out, or give 0")
    return wanted


def _write(
    origin: Origin,
    reading: Reading,
    kind: Kind,
    precisions: Sequence[Precision],
    samples: Samples,
    say: Callable[[str], None],
    folder: Path,
    *,
    layer: int | None = None,
    early: int | None = None,
) -> None:
    """Write the model, or what of it lies before its exit after `layer`, as an artifact into `folder`.

    early: the layer of the exit whose artifact is in `folder` already
    """
    say(f"loading {origin.name}")
    model = torch_model.load(origin, kind, layer)
    base = _save_model(origin, reading, model, kind, folder)
    if layer is not None:
        base = base.model_copy(update={"name": f"{base.name} to layer {layer}", "exit_after": layer})
    with tempfile.TemporaryDirectory() as scratch:
        say("tracing with optimum")
        traced = Path(scratch) / "traced.onnx"
        trace(model, kind, traced)
        variants = _variants(traced, model, base, folder, precisions, samples, say)
    _write_manifest(folder, base.model_copy(update={"variants": variants, "early": early}))


def _ordered(precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    unknown = set(precisions) - set(VARIANT_FILES)
    if unknown or not precisions:
        raise ExportError(
            f"precisions are some of {', '.join(VARIANT_FILES)}, not {', '.join(sorted(unknown)) or 'none'}"
        )
    return tuple(precision for precision in VARIANT_FILES if precision in precisions)


def _save_model(origin: Origin, reading: Reading, model: Any, kind: Kind, folder: Path) -> ArtifactManifest:
    """Write weights, configuration and tokenizer; the manifest so far, without variants and files."""
    with quiet():
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer = AutoTokenizer.from_pretrained(origin.folder, local_files_only=True, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise ExportError(f"{origin.name} has no tokenizer.json and none can be made from its files")
        tokenizer.save_pretrained(folder)
    if tokenizer.pad_token_id is None:
        raise ExportError(f"{origin.name}'s tokenizer has no padding token, which batches need")
    segments = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in tokenizer.model_input_names
    record = read_record(origin.adapter) if origin.adapter else None
    return ArtifactManifest(
        kind=kind,
        name=origin.name,
        source=SourceRecord(name=origin.name, revision=origin.revision, adapter=adapter_mark(origin.adapter)),
        family=reading.family,
        max_length=min(reading.max_length, record.max_length) if record else reading.max_length,
        segments=segments,
        pad_id=tokenizer.pad_token_id,
        dimension=model.config.hidden_size if kind == "bi-encoder" else None,
        pooling=reading.pooling,
        normalize=reading.normalize,
        prompts=reading.prompts,
        activation=reading.activation,
        fusion=record.fusion if record else Fusion(),
        variants={},
        files={},
        opset=OPSET,
        tools={name: importlib.metadata.version(name) for name in TOOLS},
    )


def _variants(
    traced: Path,
    model: Any,
    base: ArtifactManifest,
    folder: Path,
    precisions: Sequence[Precision],
    samples: Samples,
    say: Callable[[str], None],
) -> dict[Precision, Variant]:
    """Write and prove each precision's graph; raises ExportError at the first that fails."""
    tokenizer = Tokenizer(folder / "tokenizer.json", max_length=base.max_length, segments=base.segments)
    usage = Usage.of(base)
    say("scoring real text with PyTorch")
    reference = scores(partial(torch_model.forward, model, segments=base.segments), tokenizer, usage, samples)
    (folder / "onnx").mkdir()
    variants: dict[Precision, Variant] = {}
    for precision in precisions:
        file = folder / VARIANT_FILES[precision]
        watch = partial(outputs, tokenizer=tokenizer, usage=usage, samples=samples, count=WATCHED)
        found = _write_graph(traced, model.config, base.kind, precision, file, watch)
        some = samples.head(FP16_QUERIES, FP16_CANDIDATES) if precision == "fp16" else samples
        rows, columns = some.candidates.shape
        table = scores(onnx_forward(file), tokenizer, usage, some, alone=precision == "int8")
        parity = _prove(precision, reference[:rows, :columns], table, early=base.exit_after is not None)
        say(f"{precision}: max error {parity.max_error:.2g}, Kendall tau {parity.kendall_tau:.3f}")
        variants[precision] = Variant(file=VARIANT_FILES[precision], parity=parity, fused=found)
    return variants


def _write_graph(traced: Path, config: Any, kind: Kind, precision: Precision, file: Path, watch: Run) -> dict[str, int]:
    """Write the graph of one precision; its fused operators and how often each occurs.

    watch: see `split_outliers`
    """
    target: Target = "gpu" if precision == "fp16" else "cpu"
    graph = fuse(traced, config, target)
    found = counts(graph)
    if kind == "cross-encoder" and keep_first_token(graph):
        found[FIRST_TOKEN] = 1
    if precision == "int8":
        products = split_outliers(graph, watch)
        if products:
            found[OUTLIERS] = len(products) // 2
        to_int8(graph, file, keep=products)
    else:
        save_graph(to_fp16(graph) if precision == "fp16" else graph, file)
    return found


def _prove(precision: Precision, reference: Array, variant: Array, *, early: bool) -> Parity:
    wrong = failures(precision, reference, variant, early=early)
    if wrong:
        raise NotEqual(
            f"the {precision} variant is not the model it came from: {'; '.join(wrong)}; nothing was written"
        )
    return compare(reference, variant)


def _write_manifest(folder: Path, manifest: ArtifactManifest) -> None:
    files = {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    complete = manifest.model_copy(update={"files": files})
    write_durably(folder / MANIFEST, complete.model_dump_json(indent=2).encode())
