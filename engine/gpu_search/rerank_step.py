"""Rows → the final order, on the device: pairs packed, cross-encoder, evidence, top-k."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...kernels.pack import TokenRows, empty_pairs, pack
from ...kernels.topk import topk
from ..models.runtime.cuda_graphs import Input
from ..text.tokens import TokenBatch
from .buffers import Parts
from .candidates import DeviceCandidates
from .lexical_evidence import TERMS, Terms, densest_windows
from .recall_step import RecallStep

LONGEST_QUERY = 512
"""Reranker ids of a query that go up at most: a search with a longer one is served without a pipeline."""
QueryTerms = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""int32 and float32 [n, TERMS]: see `lexical_evidence.Terms`."""
FIELDS = 6
"""Numbers that come down for each candidate: row, place in recall's order, final score, cosine, lexical, logit."""


class RerankStep:
    """Score `k` candidates of each of up to `queries` queries in a buffer of `tokens` tokens, and keep the best `kept`.

    `found` is what recall gave: an input, or that of a RecallStep. `out` float64 [queries, kept · FIELDS
    + 2] is the one thing that comes down: the candidates' fields (float64 holds every row and float32 exactly), whether
    a logit was not finite, and the tokens all pairs need: more than `tokens` means that some were left out.
    """

    def __init__(
        self, parts: Parts, queries: int, k: int, kept: int, tokens: int,
        *, recall: RecallStep | None = None,
    ) -> None:  # fmt: skip
        device = parts.device
        self._parts = parts
        self.queries, self.k, self.kept, self.tokens = queries, k, kept, tokens
        self._ids = Input((queries * LONGEST_QUERY,), torch.int32, device)
        self._offsets = Input((queries + 1,), torch.int64, device)
        self.found = DeviceCandidates.none(queries, k, device) if recall is None else recall.found
        self._owners = torch.arange(queries, dtype=torch.int32, device=device).repeat_interleave(k)
        self._pairs = empty_pairs(queries * k, tokens, device)
        self._term_ids = Input((queries, TERMS), torch.int32, device, fill=-1)
        self._term_shares = Input((queries, TERMS), torch.float32, device)
        self._terms = Terms(self._term_ids.tensor, self._term_shares.tensor)
        self.out = torch.zeros(queries, kept * FIELDS + 2, dtype=torch.float64, device=device)

    def write(self, queries: TokenBatch, terms: QueryTerms | None = None) -> None:
        """Hand over the queries' reranker ids and terms (None: no lexical score counts)."""
        self._ids.write(queries.ids)
        self._offsets.write_bounds(queries.cu_seqlens)
        if terms is not None:
            self._term_ids.write(terms[0])
            self._term_shares.write(terms[1])

    def run(self) -> None:
        """Fill `out`."""
        parts, store, found = self._parts, self._parts.store.tokens, self.found
        asked = TokenRows(self._ids.tensor, self._offsets.tensor)
        rows = found.rows.view(-1)
        pairs = pack(asked, store, rows, self._owners, parts.form, self.tokens, out=self._pairs)
        buffers = parts.buffers(parts.reranker, self.tokens)
        logits = parts.reranker.run(pairs.ids, pairs.segments, pairs.layout, buffers).view(self.queries, self.k)
        real = rows.clamp(min=0)
        lengths = store.offsets[real + 1] - store.offsets[real]
        windows = densest_windows(pairs, parts.form, torch.diff(asked.offsets), lengths, self._terms)
        lexical = windows.view_as(found.words)
        if parts.words:
            lexical = 0.5 * (found.words + lexical)
        evidence = parts.evidence(found.cosines, lexical)
        bounds = pairs.layout.cu_seqlens
        scores, places = topk(logits, found.cosines, parts.weight, self.kept, evidence=evidence, cu_seqlens=bounds)
        chosen = places.clamp(min=0).long()
        read = (torch.diff(bounds) > 0).view_as(logits)
        missing = places < 0
        fields = (
            found.rows.gather(1, chosen).masked_fill(missing, -1),
            places,
            scores,
            found.cosines.gather(1, chosen),
            lexical.gather(1, chosen),
            # Not `where` with a number: that is copied up from the host, which a graph cannot hold.
            logits.masked_fill(~read, torch.nan).gather(1, chosen),
        )
        told = ((read & ~torch.isfinite(logits)).any(1), pairs.needed.expand(self.queries))
        self.out.copy_(
            torch.cat([*(each.double() for each in fields), *(each.double()[:, None] for each in told)], dim=1)
        )
