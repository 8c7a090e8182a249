"""How far a variant may be from the PyTorch model, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engine.models.artifact import Parity, Precision

Scores = npt.NDArray[np.float32]
TOP = 10


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """Errors are in units of the reference's spread (see `spread`), so that they mean the same for a cosine between
    0.2 and 0.8 and for a logit between -11 and 11."""

    max_error: float
    mean_error: float
    top10_overlap: float
    kendall_tau: float


# FP32 differs by the order of additions alone. FP16 keeps 11 bits, which six to twenty-four layers turn into a few
# thousandths. INT8 is judged by what it is for, the order, and by a mean error that an order cannot hide; one pair in a
# thousand may be off by more than a standard deviation. Tau counts the order of passages that do not answer, to which a
# trained reranker gives nearly equal logits: the bundled one has tau 0.95 with 0.97 of the ten best in common.
# An early exit only says who goes on, and twice as many do as are wanted. INT8's error of the first layers is not
# averaged out after two or three, so more is allowed: the bundled exit has tau 0.91 with 0.94 of the ten best.
EXIT_INT8 = ParityLimits(max_error=2.0, mean_error=0.35, top10_overlap=0.75, kendall_tau=0.65)
LIMITS: dict[Precision, ParityLimits] = {
    "fp32": ParityLimits(max_error=1e-3, mean_error=1e-4, top10_overlap=0.99, kendall_tau=0.995),
    "fp16": ParityLimits(max_error=5e-2, mean_error=1e-2, top10_overlap=0.97, kendall_tau=0.98),
    "int8": ParityLimits(max_error=2.0, mean_error=0.2, top10_overlap=0.8, kendall_tau=0.75),
}


def compare(reference: Scores, variant: Scores) -> Parity:
    """Errors and rank agreement of two score tables, both [queries, candidates]; both must be finite."""
    error = np.abs(variant.astype(np.float64) - reference)
    return Parity(
        samples=int(reference.size),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        top10_overlap=float(np.mean([overlap(a, b) for a, b in zip(reference, variant, strict=True)])),
        kendall_tau=float(np.mean([kendall_tau(a, b) for a, b in zip(reference, variant, strict=True)])),
    )


def failures(precision: Precision, reference: Scores, variant: Scores, *, early: bool = False) -> list[str]:
    """What is wrong with a variant of a model, or of its `early` exit, a phrase each; empty when it passes."""
    bad = int((~np.isfinite(variant)).sum())
    if bad:
        return [f"{bad} of {variant.size} scores are not finite"]
    limits = EXIT_INT8 if early and precision == "int8" else LIMITS[precision]
    parity, unit = compare(reference, variant), spread(reference)
    found = []
    if parity.max_error > limits.max_error * unit:
        found.append(f"max error {parity.max_error:.2g} > {limits.max_error * unit:.2g}")
    if parity.mean_error > limits.mean_error * unit:
        found.append(f"mean error {parity.mean_error:.2g} > {limits.mean_error * unit:.2g}")
    if parity.top10_overlap < limits.top10_overlap:
        found.append(f"top-10 overlap {parity.top10_overlap:.3f} < {limits.top10_overlap}")
    if parity.kendall_tau < limits.kendall_tau:
        found.append(f"Kendall tau {parity.kendall_tau:.3f} < {limits.kendall_tau}")
    return found


def spread(reference: Scores) -> float:
    """The mean over queries of the standard deviation of one query's scores: what separates its candidates."""
    return float(reference.astype(np.float64).std(axis=1).mean())


def overlap(reference: Scores, variant: Scores) -> float:
    """Share of the `TOP` best of `reference` [n] that are among the `TOP` best of `variant` [n]."""
    top = min(TOP, len(reference))
    best = np.argsort(-reference, kind="stable")[:top]
    return len(np.intersect1d(best, np.argsort(-variant, kind="stable")[:top])) / top


def kendall_tau(a: Scores, b: Scores) -> float:
    """Kendall's tau-b of two score lists [n] (Kendall 1945, ties in the denominator); 1.0 when both are all ties."""
    upper = np.triu_indices(len(a), k=1)
    signs_a = np.sign(a[:, None] - a[None, :])[upper]
    signs_b = np.sign(b[:, None] - b[None, :])[upper]
    untied_a, untied_b = int(np.count_nonzero(signs_a)), int(np.count_nonzero(signs_b))
    if untied_a == 0 or untied_b == 0:
        return 1.0 if untied_a == untied_b else 0.0
    return float((signs_a * signs_b).sum() / np.sqrt(float(untied_a) * untied_b))
