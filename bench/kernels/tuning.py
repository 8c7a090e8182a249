"""Launch rules tried against each other on the GPU at hand: `tandem bench kernels --tune`.

A rule is a function in the op's `_triton.py`; a search never tries anything. What is printed here, with the GPU's name,
is the reason to change a rule.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple
from unittest import mock

import torch

from .case import KernelCase
from .contestants import Contestant
from .timing import each_of

OURS = "ours"


class Rule(NamedTuple):
    """A launch rule: where it is, the tuple it returns, and what else it might say."""

    module: str
    function: str
    kind: str
    candidates: list[tuple[int, ...]]


RULES = {
    "attention": Rule(
        "attention_triton", "step", "Step", [(32, 4, 2), (32, 4, 3), (64, 4, 2), (64, 4, 3), (64, 4, 4), (128, 4, 2)]
    ),
    "linear_gelu": Rule(
        "linear_gelu_triton", "tile", "Tile",
        [(64, 64, 64, 4, 4), (64, 128, 64, 4, 4), (128, 128, 64, 4, 3), (128, 128, 64, 8, 3), (128, 128, 64, 8, 4),
         (128, 256, 64, 8, 3)],
    ),
    "scan": Rule(
        "scan_triton", "flow", "Flow", [(64, 4, 4), (128, 4, 3), (128, 4, 4), (128, 8, 4), (256, 8, 3), (256, 8, 4)]
    ),
}  # fmt: skip


def tried(case: KernelCase, device: torch.device) -> dict[str, float | None]:
    """Microseconds of the case under each candidate of its op's rule; empty where an op has no rule.

    None for a candidate that fails: one that wants more shared memory than the card has is no answer, and no end.
    """
    rule = RULES.get(case.name.split()[0])
    if rule is None:
        return {}
    module: Any = import_module(f"...kernels.{rule.module}", __package__)
    times: dict[str, float | None] = {}
    for fields in rule.candidates:
        answer = getattr(module, rule.kind)(*fields)
        with mock.patch.object(module, rule.function, lambda *_, answer=answer: answer):
            took, _ = each_of({OURS: Contestant(case.ours)}, device)
        times[str(answer)] = took[OURS] * 1e6 if OURS in took else None
    return times
