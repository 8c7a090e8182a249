"""From a model to an artifact: read, trace, write graphs of several precisions, prove them."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from ..engine.errors import ExportError
from ..engine.models.artifact import (
    EARLY,
    MANIFEST,
    VARIANT_FILES,
    Artifact,
    ArtifactManifest,
    FileRecord,
    Kind,
    ModelSize,
    Precision,
    SourceRecord,
    Variant,
)
from ..engine.platform.durable_io import sha256, write_durably
from ..engine.scoring.fusion import Fusion
from ..engine.text.tokenizer import Tokenizer
from .bundled import adapter_mark
from .graph.lowering import Target
from .graph.trace import OPSET
from .graph.write import target_of, write_graph
from .parity.activations import outputs
from .parity.compare import compare, failures
from .parity.reference import reference_scores
from .parity.samples import FP16_CANDIDATES, FP16_QUERIES, Samples, sample
from .parity.scoring import Array, Reading, onnx_forward, scores
from .quiet import quiet
from .source.last_token import as_classifier
from .source.library import Loaded, load
from .source.merged import drop_code, merged
from .source.record import read_record
from .source.resolve import Origin, resolve
from .source.usage import Usage, read
from .source.wishes import Wishes
from .staging import staged
from .tracing import trace_for

log = logging.getLogger(__name__)
TOOLS = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "tokenizers")
NO_WISHES = Wishes()
# Parameters, and the queries and candidates that prove a model of no more.
PROOFS = ((60_000_000, (20, 50)), (200_000_000, (12, 30)), (2**62, (8, 16)))
# Sequences on which the largest activations are looked for: loud channels are so on any text.
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
    wishes: Wishes = NO_WISHES,
    early_exit: int | None = None,
    texts: Sequence[str] | None = None,
    queries: Sequence[str] | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Artifact:
    """Export `source` (Hub id, folder or bundled name) to the artifact folder `out`, and open it.

    adapter:    LoRA adapter folder merged into the weights (cross-encoder only)
    precisions: the variants to write; each is proven against sentence-transformers in FP32 on `texts` and `queries`
                (default: the standard library's documentation strings); one that fails is left out with a warning
    wishes:     prompts, pooling, length and dimensions where they are to be other than the model's files say
    early_exit: the layer of the early exit that goes along, as an artifact in the artifact; None: the adapter's last
                exit in the first half of the layers, where it has one that passes its check; 0: none
    trust_remote_code: run Python code that the model brings, now; the artifact never holds code
    progress:   called with one line a step

    Raises ExportError when the model is not supported or no variant passes its check, StorageError when the disk
    refuses; `out` is then as it was.
    """
    out = Path(out)
    say = progress or (lambda line: None)
    if kind not in get_args(Kind):
        raise ExportError(f"a model is exported as {' or '.join(get_args(Kind))}, not as {kind!r}")
    precisions = _ordered(precisions)
    origin = resolve(source, kind, revision=revision, adapter=adapter, trust_remote_code=trust_remote_code)
    samples = sample(texts, queries)
    early = _exit_layer(origin, early_exit)
    with staged(out) as folder:
        write = partial(_write, origin, kind, wishes, precisions, samples, say)
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
        Artifact.open(folder, kind=kind)  # what an engine would refuse does not take a former artifact's place
    return Artifact.open(out, kind=kind)


def _exit_layer(origin: Origin, wanted: int | None) -> int | None:
    """The layer to exit after, None for no exit; raises ExportError when the adapter has no such exit."""
    if wanted == 0:
        return None
    record = read_record(origin.trained)
    layers = sorted(record.exits) if record else []
    if wanted is None:
        return max((layer for layer in layers if record and 2 * layer <= record.base.layers), default=None)
    if wanted not in layers:
        have = f"has exits after layers {', '.join(map(str, layers))}" if layers else "has no early exits"
        raise ExportError(f"{origin.name} {have}, none after layer {wanted}; leave --early-exit out, or give 0")
    return wanted


def _write(
    origin: Origin,
    kind: Kind,
    wishes: Wishes,
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
    with tempfile.TemporaryDirectory() as scratch:
        loaded = load(merged(origin, kind, layer, Path(scratch) / "merged"), kind, wishes)
        usage = read(origin, loaded, wishes, say)
        _refuse_longer(origin, wishes)
        base = _save_model(origin, loaded, usage, folder)
        if layer is not None:
            base = base.model_copy(update={"name": f"{base.name} to layer {layer}", "exit_after": layer})
        samples = samples.head(*_proof(sum(each.numel() for each in loaded.network.parameters())))
        say(f"scoring {samples.candidates.size} pairs of real text with sentence-transformers")
        reference = reference_scores(loaded, usage, samples)
        targets = dict.fromkeys(map(target_of, precisions))
        say("tracing with PyTorch")
        traced = {target: trace_for(target, loaded, usage, Path(scratch) / target) for target in targets}
        del loaded, usage
        variants = _variants(traced, reference, base, folder, precisions, samples, say)
    _write_manifest(folder, base.model_copy(update={"variants": variants, "early": early}))


def _refuse_longer(origin: Origin, wishes: Wishes) -> None:
    record = read_record(origin.trained)
    if record is not None and wishes.max_length is not None and wishes.max_length > record.max_length:
        raise ExportError(
            f"{origin.name} was trained on pairs of {record.max_length} tokens; --max-length may ask for less"
        )


def _proof(parameters: int) -> tuple[int, int]:
    """Queries and candidates of each that prove a model of so many parameters, in minutes rather than hours.

    A pair of 60 tokens costs 2 · 60 operations a parameter, three times over: a thousand pairs of a model with 500
    million would be half an hour on two cores.
    """
    return next((size for most, size in PROOFS if parameters <= most), PROOFS[-1][1])


def _ordered(precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    unknown = set(precisions) - set(VARIANT_FILES)
    if unknown or not precisions:
        raise ExportError(
            f"precisions are some of {', '.join(VARIANT_FILES)}, not {', '.join(sorted(unknown)) or 'none'}"
        )
    return tuple(precision for precision in VARIANT_FILES if precision in precisions)


def _save_model(origin: Origin, loaded: Loaded, usage: Usage, folder: Path) -> ArtifactManifest:
    """Write weights, configuration and tokenizer; the manifest so far, without variants and files."""
    model, tokenizer = loaded.network, loaded.tokenizer
    with quiet():
        as_classifier(model, usage.network).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    drop_code(folder)
    record = read_record(origin.trained)
    config = model.config
    return ArtifactManifest(
        kind=loaded.kind,
        name=origin.name,
        source=SourceRecord(name=origin.name, revision=origin.revision, adapter=adapter_mark(origin.adapter)),
        family=config.model_type,
        max_length=min(usage.max_length, record.max_length) if record else usage.max_length,
        segments=usage.segments,
        cut_side=usage.cut_side,
        pad_id=tokenizer.pad_token_id,
        size=ModelSize(
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            width=config.hidden_size,
            wide=_wide(config),
        ),
        dimension=usage.dimension,
        pooling=usage.pooling,
        prompts=usage.prompts,
        pair_text=usage.pair_text,
        similarity=usage.similarity,
        activation=usage.activation,
        fusion=record.fusion if record else Fusion(),
        variants={},
        files={},
        opset=OPSET,
        tools={name: importlib.metadata.version(name) for name in TOOLS},
    )


def _wide(config: Any) -> int:
    """Numbers inside a feed-forward, by the names that families have for them."""
    names = ("intermediate_size", "hidden_dim", "d_ff")
    return next((int(found) for name in names if (found := getattr(config, name, None))), 4 * int(config.hidden_size))


def _variants(
    traced: dict[Target, Path],
    reference: Array,
    base: ArtifactManifest,
    folder: Path,
    precisions: Sequence[Precision],
    samples: Samples,
    say: Callable[[str], None],
) -> dict[Precision, Variant]:
    """Write and prove each precision's graph; one that fails is left out. Raises NotEqual when none passes."""
    tokenizer = Tokenizer(
        folder / "tokenizer.json", max_length=base.max_length, segments=base.segments, prompting=base.prompting,
        side=base.cut_side,
    )  # fmt: skip
    reading = Reading.of(base, tokenizer)
    watch = partial(outputs, reading=reading, samples=samples, count=WATCHED)
    (folder / "onnx").mkdir()
    variants: dict[Precision, Variant] = {}
    failed: dict[Precision, str] = {}
    for precision in precisions:
        file = folder / VARIANT_FILES[precision]
        found = write_graph(traced[target_of(precision)], precision, file, watch)
        some = samples.head(FP16_QUERIES, FP16_CANDIDATES) if precision == "fp16" else samples
        rows, columns = some.candidates.shape
        table = scores(onnx_forward(file, base.pad_id), reading, some)
        wrong = failures(precision, reference[:rows, :columns], table, early=base.exit_after is not None)
        if wrong:
            failed[precision] = "; ".join(wrong)
            _leave_out(precision, failed[precision], file, say)
            continue
        parity = compare(reference[:rows, :columns], table)
        say(f"{precision}: max error {parity.max_error:.2g}, Kendall tau {parity.kendall_tau:.3f}")
        variants[precision] = Variant(file=VARIANT_FILES[precision], parity=parity, fused=found)
    if not variants:
        reasons = ", ".join(f"{precision} ({reason})" for precision, reason in failed.items())
        raise NotEqual(f"no variant is the model it came from: {reasons}; nothing was written")
    return variants


def _leave_out(precision: Precision, reason: str, file: Path, say: Callable[[str], None]) -> None:
    """Take a variant away that is not the model, and say so; whoever needs it has the others."""
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()
    way = {
        "fp16": "a CPU runs the others, a GPU has none",
        "int8": "a CPU then runs FP32, slower",
        "fp32": "nothing runs in FP32",
    }[precision]
    say(f"{precision}: left out, since it is not the model it came from ({reason}); {way}")


def _write_manifest(folder: Path, manifest: ArtifactManifest) -> None:
    files = {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    complete = manifest.model_copy(update={"files": files})
    write_durably(folder / MANIFEST, complete.model_dump_json(indent=2).encode())
