"""Is an artifact still what its manifest says, and do its graphs still agree with each other on this machine?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import ArtifactError
from ..engine.models.artifact import EARLY, Artifact, Parity, Precision
from .parity.compare import compare, failures
from .parity.samples import FP16_CANDIDATES, FP16_QUERIES, Samples, sample
from .parity.scoring import Array, Reading, onnx_forward, scores

QUERIES, CANDIDATES = 8, 24


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked: every file's sha256, and each variant's agreement with `reference` on real text.

    early: the same of the artifact's early exit
    """

    artifact: Artifact
    files: int
    reference: Precision
    agreement: dict[Precision, Parity]
    early: Report | None = None


def verify_artifact(path: str | Path, *, progress: Callable[[str], None] | None = None) -> Report:
    """Hash every file of the artifact `path`, run every graph on real text and compare them; needs no PyTorch.

    The comparison is of this machine: INT8 kernels of CPUs without VNNI saturate, which shows here and nowhere else.
    Raises ArtifactError when a file is not the manifest's, a graph cannot be run, gives a number that is not finite, or
    ranks too differently from the FP32 graph (from the first variant, where there is no FP32).
    """
    say = progress or (lambda line: None)
    artifact = Artifact.open(path)
    artifact.verify()
    say(f"{len(artifact.manifest.files)} files are what the manifest says")
    samples = sample(None, None, count=QUERIES, candidates=CANDIDATES)
    first, *others = artifact.manifest.variants
    reference = _scores(artifact, first, samples)
    agreement: dict[Precision, Parity] = {}
    _refuse(artifact, first, failures(first, reference, reference))
    for precision in others:
        some = samples.head(FP16_QUERIES, FP16_CANDIDATES) if precision == "fp16" else samples
        rows, columns = some.candidates.shape
        table = _scores(artifact, precision, some)
        early = artifact.manifest.exit_after is not None
        _refuse(artifact, precision, failures(precision, reference[:rows, :columns], table, early=early))
        agreement[precision] = compare(reference[:rows, :columns], table)
        say(f"{precision} agrees with {first}: Kendall tau {agreement[precision].kendall_tau:.3f}")
    exit_report = None
    if artifact.manifest.early is not None:
        say(f"the early exit after layer {artifact.manifest.early}:")
        exit_report = verify_artifact(artifact.path / EARLY, progress=progress)
    return Report(artifact, len(artifact.manifest.files), first, agreement, exit_report)


def _scores(artifact: Artifact, precision: Precision, samples: Samples) -> Array:
    graph = artifact.graph(precision)
    try:
        reading = Reading.of(artifact.manifest, artifact.tokenizer())
        return scores(onnx_forward(graph, reading.pad_id), reading, samples)
    except ArtifactError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ArtifactError(f"ONNX Runtime cannot run {graph}: {error}; export the model again") from error


def _refuse(artifact: Artifact, precision: Precision, wrong: list[str]) -> None:
    if wrong:
        raise ArtifactError(
            f"{artifact.path}: the {precision} graph is not to be trusted on this machine ({'; '.join(wrong)}); "
            "use another precision, or export again here"
        )
