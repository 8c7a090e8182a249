"""What a model takes of a GPU's memory, by the runtime and precision that were chosen for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .artifact import WEIGHTS, Artifact, Precision
from .runtime import Choice
from .runtime.buckets import PACKED_TOKENS, Buckets
from .runtime.families import shape_of
from .runtime.onnx_cuda import INPUTS, TOKENS
from .runtime.select import arena_limit, shape_problem


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model and what runs it."""

    artifact: Artifact
    choice: Choice

    @classmethod
    def expected(cls, artifact: Artifact) -> Chosen:
        """What `auto` chooses on a card where everything is installed: for a plan on a machine that has none."""
        if (problem := shape_problem(artifact)) is None:
            return cls(artifact, Choice("packed", "fp16", "expected where tandem[gpu] is installed"))
        precision: Precision = "fp16" if "fp16" in artifact.manifest.variants else "fp32"
        return cls(artifact, Choice("onnx", precision, f"the packed runtime does not run this model: {problem}"))

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes of the weights, and bytes of everything else while it runs: activations and buffers."""
        return _packed(self.artifact) if self.choice.runtime == "packed" else _onnx(self.artifact, self.choice)

    def __str__(self) -> str:
        return f"{self.choice.runtime} {self.choice.precision}: {self.choice.reason}"


def _packed(artifact: Artifact) -> tuple[int, int]:
    """Weights in half precision, kept in the artifact as FP32; activations of the largest batch.

    Raises InputError for a model that the packed runtime does not know.
    """
    shape = shape_of(artifact.architecture())
    if isinstance(shape, str):
        raise InputError(f"the packed runtime cannot run {artifact.manifest.name}: {shape}")
    weights = artifact.manifest.files[WEIGHTS].size // 2 if WEIGHTS in artifact.manifest.files else 0
    return weights, shape.token_bytes * PACKED_TOKENS[-1] + shape.table_bytes


def _onnx(artifact: Artifact, choice: Choice) -> tuple[int, int]:
    """The graph's own weights; the rest of what ONNX Runtime's arena may grow to, and the bound buffers outside it.

    An artifact without that precision counts no weights: opening it is refused.
    """
    manifest = artifact.manifest
    variant = manifest.variants.get(choice.precision)
    files = [] if variant is None else [name for name in manifest.files if name.startswith(variant.file)]
    weights = sum(manifest.files[name].size for name in files)
    arena = arena_limit(weights, manifest.size, manifest.max_length)
    return weights, arena - weights + slot_bytes(artifact)


def slot_bytes(artifact: Artifact) -> int:
    """Inputs and output of every shape that `onnx_cuda` runs, each with its own (see its `_Slot`)."""
    manifest = artifact.manifest
    shapes = Buckets(manifest.max_length, TOKENS).largest_first()
    inputs = 8 * (len(INPUTS) if manifest.segments else len(INPUTS) - 1)
    outputs = 4 * (manifest.dimension or 1) * sum(shape.batch for shape in shapes)
    return inputs * sum(shape.tokens for shape in shapes) + outputs
