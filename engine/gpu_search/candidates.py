"""The candidates of queries on the device, and both lists of recall as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .buffers import Parts


@dataclass(frozen=True, slots=True)
class DeviceCandidates:
    """What recall found, those with the most evidence first.

    rows:    int64 [queries, k]    -1 where there is none
    cosines: float32 [queries, k]  -inf there
    words:   float32 [queries, k]  how much of the query's words each holds (see `Recalled.words`)
    """

    rows: torch.Tensor
    cosines: torch.Tensor
    words: torch.Tensor

    @classmethod
    def none(cls, queries: int, k: int, device: torch.device) -> DeviceCandidates:
        """None yet: whoever finds some writes them in."""
        rows = torch.full((queries, k), -1, dtype=torch.int64, device=device)
        return cls(rows, torch.full((queries, k), -torch.inf, device=device), torch.zeros(queries, k, device=device))

    def take(self, others: DeviceCandidates, queries: slice = slice(None)) -> None:
        """Copy the candidates of some queries of `others` to the first queries here; the rest have none."""
        count = len(others.rows[queries])
        for own, other, nothing in zip(self._tensors, others._tensors, (-1, -torch.inf, 0.0), strict=True):
            own[:count].copy_(other[queries])
            own[count:].fill_(nothing)

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return self.rows, self.cosines, self.words


def united(
    near: tuple[torch.Tensor, torch.Tensor], listed: tuple[torch.Tensor, torch.Tensor, torch.Tensor], parts: Parts
) -> DeviceCandidates:
    """The k candidates of both lists with the most evidence, as `search.union.unite` has them on the host.

    near:   float32 and int64 [queries, k]: cosines and rows of the nearest passages
    listed: int64 and float32 [queries, l], rows of the passages with the queries' words, -1 where there are fewer, and
            how much of the words each holds; float32 [queries, l], their cosines
    """
    (near_cosines, near_rows), (found, shares, cosines) = near, listed
    same = (near_rows[:, :, None] == found[:, None, :]) & (found >= 0)[:, None, :]
    absent = same.any(1) | (found < 0) | ~torch.isfinite(cosines)
    words = torch.cat([(same * shares[:, None, :]).sum(-1), shares], dim=1)
    rows = torch.cat([near_rows, found.masked_fill(absent, -1)], dim=1)
    cosines = torch.cat([near_cosines, cosines.masked_fill(absent, -torch.inf)], dim=1)
    evidence = parts.evidence(cosines, words)
    best = evidence.sort(dim=1, descending=True, stable=True).indices[:, : near_rows.shape[1]]
    return DeviceCandidates(rows.gather(1, best), cosines.gather(1, best), words.gather(1, best))
