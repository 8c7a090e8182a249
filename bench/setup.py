"""What a benchmark on a collection is given, and what each of them asks of it first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.collection import Progress
from ..engine.collection.report import silent
from ..engine.models.cross_encoder import CrossEncoder
from .rivals import Rival, running
from .workloads import Workload, described, needed_reranker, pair_lengths

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions; for each the rows of its candidates (int64 [k], best first) and the tokens of its pairs (likewise)."""

    questions: list[str]
    rows: list[Rows]
    lengths: list[Rows]

    @property
    def candidates(self) -> int:
        """As many as were found: all passages of a collection that has fewer than were wanted."""
        return len(self.rows[0])


@dataclass(frozen=True, slots=True)
class Setup:
    """An open collection with questions, and how it is measured.

    rivals: names of those to measure beside; environments: the folder of their environments; seed: of every draw
    """

    engine: Engine
    workload: Workload
    rivals: Sequence[str] = ()
    environments: Path | None = None
    seed: int = 0
    progress: Progress = silent

    @property
    def threads(self) -> int:
        """CPU threads of every system."""
        return self.engine.device.threads

    @property
    def reranker(self) -> CrossEncoder:
        """The engine's; raises InputError when there is none to time."""
        return needed_reranker(self.engine)

    def asked(self, sample: int, candidates: int) -> Asked:
        """`sample` questions with `candidates` candidates each, drawn with the seed."""
        questions = self.workload.questions(sample, self.seed)
        found = self.engine.collection.index.search(
            self.engine.embed(questions, "query"), min(candidates, len(self.engine.collection))
        )
        rows = list(found[1])
        return Asked(questions, rows, pair_lengths(self.engine, self.reranker, questions, rows))

    def running(self) -> AbstractContextManager[tuple[list[Rival], dict[str, str]]]:
        """The rivals that start here with this engine's models, and the reason of each that does not."""
        return running(
            self.rivals, self.engine.encoder.artifact, self.reranker.artifact, threads=self.threads,
            environments=self.environments, tell=lambda message: self.progress(0, None, message),
        )  # fmt: skip

    def described(self, questions: Sequence[str], lengths: Sequence[Rows], **more: Any) -> dict[str, Any]:
        """The part of a document that says what was measured."""
        return described(self.workload, self.engine, questions, lengths, seed=self.seed, **more)
