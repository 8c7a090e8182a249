"""Settings: frozen, validated, unknown keys refused. Nothing in the engine reads the environment."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .collection import filters as filtering
from .errors import InputError
from .models.artifact import Precision
from .models.runtime import RuntimeWish

# One request may not ask for more: beyond it a search is a scan, and 2,048 is also FAISS's limit on a GPU.
MAX_CANDIDATES = 2048
# Twice the usual top_k.
FINALISTS = 20


def shortened(value: object, most: int = 60) -> str:
    """`value` as it is written, and not more than a line of it."""
    said = repr(value)
    return said if len(said) <= most else f"{said[:most]}…"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __init__(self, **values: Any) -> None:
        """Raises InputError naming the first setting that is wrong."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(wrong := first.get("ctx", {}).get("error"), InputError):  # one of our own sentences
                raise wrong from error
            name = ".".join(map(str, first["loc"])) or type(self).__name__
            known = ", ".join(type(self).model_fields)
            hint = f"; known settings: {known}" if first["type"] == "extra_forbidden" else ""
            raise InputError(f"setting {name} = {shortened(first['input'])}: {first['msg']}{hint}") from error


class EngineSettings(_Settings):
    """How an engine runs; given to `Engine.open`."""

    device: str = "auto"
    threads: int | None = None
    """CPU threads of each model; None: one a core that this process may use."""
    encoder_precision: Precision | Literal["auto"] = "auto"
    reranker_precision: Precision | Literal["auto"] = "auto"
    """`auto`: FP16 on a GPU; on a CPU the encoder in FP32 and the reranker in INT8, where the artifact has it."""
    runtime: RuntimeWish = "auto"
    """`packed`: our kernels, no padding, BERT only; `auto`: packed on a GPU where it supports the model, else ONNX."""
    pipeline: Literal["auto", "staged", "resident"] = "auto"
    """`resident`: a whole search on the device; `auto`: resident on a GPU where both models run packed."""
    gpu_memory_gib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """GPU memory that this engine may plan with; None: what is free when it opens."""
    recall_weight: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    """Weight of recall's evidence in the final score; None: the collection's, or else the reranker's fitted one."""
    lexical_weight: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    """Weight of the lexical score beside the cosine in that evidence; None: as above."""
    queue_tokens: int = Field(default=2_000_000, gt=0)
    """Tokens that may wait; a request beyond it raises Overloaded. 2 M is some 100 searches of 100 passages."""
    early_exit: bool = True
    """Use the reranker's early exit, where its artifact has one; on a CPU only (see `SearchSettings.finalists`)."""
    warm_up: bool = True
    """Measure the machine at open (about a second). Without it the first requests teach the cost model."""


class SearchSettings(_Settings):
    """What one search is asked for."""

    top_k: int = Field(default=10, ge=1, le=MAX_CANDIDATES)
    candidates: int = Field(default=100, ge=1, le=MAX_CANDIDATES)
    budget_ms: float | None = Field(default=250.0, gt=0, allow_inf_nan=False)
    """Milliseconds from the call to the answer; None: no limit, every candidate is reranked."""
    rerank: bool = True
    rerank_count: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Candidates that the cross-encoder reads: those with the best evidence, or recall's first under the pure
    cross-encoder order; the others keep recall's order behind them. None: all of them."""
    finalists: int | None = Field(default=FINALISTS, ge=1, le=MAX_CANDIDATES)
    """Candidates, and never fewer than `top_k` and `reread`, that all layers of a reranker with an early exit read: the
    best by the exit's fused score. None: all of them."""
    reread: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Candidates, the best by fused score, of which the windows are read too (see `maxp`): they stand first, with
    the whole's logit and the best window's in one; a passage of one window keeps its logit. Within a budget time is put
    by for it where at least eight candidates are read besides. None: none."""
    filters: dict[str, Any] | None = None
    """Which passages may be found, by their metadata (see `collection.filters`); None or {}: all of them."""

    def model_post_init(self, context: Any, /) -> None:
        """Raises InputError when more hits are asked for than candidates recalled, and for what is no filter."""
        self.filter()
        if self.top_k > self.candidates:
            raise InputError(
                f"top_k {self.top_k} exceeds candidates {self.candidates}; raise candidates or lower top_k"
            )

    @property
    def read(self) -> int:
        """Candidates that the cross-encoder is to read."""
        return min(self.candidates, self.rerank_count or self.candidates)

    @property
    def read_whole(self) -> int | None:
        """`finalists`, but never fewer than `top_k` and `reread`."""
        return None if self.finalists is None else max(self.finalists, self.top_k, self.reread or 0)

    def filter(self) -> filtering.Filter | None:
        """The parsed `filters`."""
        return filtering.parse(self.filters) if self.filters else None
