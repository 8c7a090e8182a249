"""A search without a file: random models over random vectors and token ids, made on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.models.artifact import Kind
from ...engine.text.tokens import Template, TokenBatch, cumulative
from .artifacts import SPECIAL
from .shapes import MAX_LENGTH, ModelShape
from .weights import weights

if TYPE_CHECKING:
    from ...engine.gpu_search.device_store import Store
    from ...engine.gpu_search.pipeline import Pipeline
    from ...engine.gpu_search.queries import Queries
    from ...engine.models.runtime.packed import PackedRuntime

CLS, SEP = 2, 3
PAIR_SPECIAL = 3
ROWS = 1 << 20
TEMPLATE = Template(parts=((CLS,), (SEP,), (SEP,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
"""BERT's pair."""


@dataclass(frozen=True, slots=True)
class RandomWorkload:
    """Random models of `shape` over `passages` whose pairs with a query have `tokens` tokens on average.

    A collection of ten million cannot be made on a disk in the minutes that a card is lent; in its memory it can.
    """

    shape: ModelShape
    passages: int
    tokens: int
    device: str = "cpu"
    seed: int = 0
    query_tokens: int = 12

    @property
    def dtype(self) -> Any:
        """Of weights and vectors: float16 on a GPU, float32 on a CPU."""
        import torch

        return torch.float32 if self.device == "cpu" else torch.float16

    def pipeline(self, stored: Store | None = None) -> Pipeline:
        """Both models over a random store, or over `stored`, moved to the device."""
        from ...engine.gpu_search.buffers import Parts
        from ...engine.gpu_search.device_store import Store
        from ...engine.gpu_search.pipeline import Pipeline
        from ...kernels.pack import PairForm, TokenRows

        if stored is None:
            stored = self.store()
        elif stored.vectors is not None:
            rows = TokenRows(stored.tokens.ids.to(self.device), stored.tokens.offsets.to(self.device))
            stored = Store(stored.vectors.to(self.device, self.dtype), rows, stored.lengths)
        encoder, reranker = self._model("bi-encoder"), self._model("cross-encoder")
        parts = Parts(
            encoder=encoder.model, reranker=reranker.model, store=stored, normalize=True,
            form=PairForm.of(TEMPLATE, MAX_LENGTH, self.device), weight=1.0, lexical_weight=0.5, words=True,
            encoder_buffers=encoder.buffers, reranker_buffers=reranker.buffers,
        )  # fmt: skip
        return Pipeline(parts)

    def store(self) -> Store:
        """Unit vectors, and passages of three to five quarters of their mean length."""
        import torch

        from ...engine.gpu_search.device_store import Store
        from ...kernels.pack import TokenRows

        device, width = self.device, self.shape.width
        generator = torch.Generator(device).manual_seed(self.seed)
        vectors = torch.empty(self.passages, width, dtype=self.dtype, device=device)
        for start in range(0, self.passages, ROWS):
            part = vectors[start : start + ROWS]
            random = torch.randn(part.shape, generator=generator, device=device)
            part.copy_(torch.nn.functional.normalize(random, dim=1))
        mean = max(1, self.tokens - PAIR_SPECIAL - self.query_tokens)
        least, most = max(1, mean * 3 // 4), mean * 5 // 4
        lengths = torch.randint(least, most + 1, (self.passages,), generator=generator, device=device)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        # The store's type as indexing chooses it: two bytes where the vocabulary fits.
        small = self.shape.vocabulary <= 2**15
        ids = torch.randint(
            len(SPECIAL), self.shape.vocabulary, (int(offsets[-1]),), generator=generator, device=device,
            dtype=torch.int16 if small else torch.int32,
        )  # fmt: skip
        rows = TokenRows(ids.view(torch.uint16) if small else ids, offsets)
        return Store(vectors, rows, (float(lengths.float().mean()), float(lengths.float().std())))

    def queries(self, count: int) -> Queries:
        """`count` queries of random words."""
        from ...engine.gpu_search.queries import Queries

        random, length = np.random.default_rng(self.seed), self.query_tokens
        words = random.integers(len(SPECIAL), self.shape.vocabulary, (count, length), dtype=np.int32)
        framed = np.pad(words, ((0, 0), (1, 1)))
        framed[:, 0], framed[:, -1] = CLS, SEP
        return Queries(
            TokenBatch(framed.ravel(), cumulative([length + 2] * count)),
            TokenBatch(words.ravel(), cumulative([length] * count)),
        )

    def _model(self, kind: Kind) -> PackedRuntime:
        import torch

        from ...engine.models.runtime.families.model import PackedModel
        from ...engine.models.runtime.packed import PackedRuntime

        tensors = weights(self.shape, kind, torch.Generator().manual_seed(self.seed))
        head: Any = "mean" if kind == "bi-encoder" else "logit"
        return PackedRuntime(PackedModel(self.shape.architecture(), tensors, head, self.dtype, self.device))
