"""Ragged pairs through the padded model, and gradients of independent lists on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...engine.text.tokens import TokenBatch
from .listwise import Lists
from .loss import reranking_loss
from .model import Reranker

TOKENS_A_CHUNK = 3072
Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Python threads of one core each, PyTorch's own threads being switched off.

    PyTorch splits every operation over its threads and waits for all of them at its end; on a machine that others use
    too, each of a step's 1,500 waits lasts until the preempted thread runs again (measured: 1.5 s a step on two idle
    cores, 9 to 18 s beside two busy processes). Threads that meet once a step lose nothing.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """The results in the order of `items`; the first error is raised."""
        return list(self._pool.map(function, items))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._before)


def score_pairs(model: nn.Module, pairs: TokenBatch, pad_id: int) -> Tensor:
    """float32 [exits + 1, n]: `model`'s scores of the joined `pairs`, in their order, differentiable.

    Sorted by length and split, so that little is computed on padding.
    """
    order = np.argsort(pairs.lengths, kind="stable")
    scores = []
    for rows in _chunks(order, pairs.lengths):
        padded = pairs.select(rows).pad(pad_id)
        scores.append(model(*map(torch.from_numpy, (padded.ids, padded.mask, padded.segments))))
    return torch.cat(scores, dim=1)[:, torch.from_numpy(np.argsort(order, kind="stable"))]


def gradients(model: Reranker, parts: list[Lists], pad_id: int, workers: Workers) -> tuple[list[Tensor], Tensor]:
    """The gradient of the mean loss over equal `parts` for each of `model.trained()`, and the layers' cross-entropies.

    Each part is a graph of its own, so that threads share nothing; sums are taken in the order of the parts, and so
    do not depend on timing.
    """
    parameters = list(model.trained().values())

    def one(lists: Lists) -> tuple[tuple[Tensor, ...], Tensor]:
        shape = lists.evidence.shape
        scores = score_pairs(model, lists.pairs, pad_id).view(-1, *shape)
        loss, entropies = reranking_loss(scores, torch.from_numpy(lists.evidence), model.recall_weight)
        return torch.autograd.grad(loss / len(parts), parameters), entropies

    results = workers.map(one, parts)
    summed = [torch.stack(shares).sum(0) for shares in zip(*(grads for grads, _ in results), strict=True)]
    return summed, torch.stack([entropies for _, entropies in results]).mean(0)


def _chunks(order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    chunks, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= TOKENS_A_CHUNK:
            end += 1
        chunks.append(order[start:end])
        start = end
    return chunks
