"""What may be asked for: each option is declared here once, with its words for people.

`SearchOptions` are those of one search, `EngineOptions` those of an engine. Python's settings, the HTTP body, the
server's settings and the command line's flags are made of these classes. Nothing in the engine reads the environment.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .collection.filters import Filter, parse
from .errors import InputError
from .models.artifact import Precision
from .models.runtime import RuntimeWish
from .scoring.effort import Effort
from .text.prompting import PromptWish

# One request may not ask for more: beyond it a search is a scan, and 2,048 is also FAISS's limit on a GPU.
MAX_CANDIDATES = 2048
CANDIDATES = 100


class SearchOptions(BaseModel):
    """What one search may be asked for."""

    top_k: int = Field(default=10, ge=1, le=MAX_CANDIDATES, description="Passages that are returned")
    candidates: int | None = Field(
        default=None, ge=1, le=MAX_CANDIDATES,
        description=f"Passages that recall gives to the reranker; none: {CANDIDATES}, or top_k where that is more",
    )  # fmt: skip
    budget_ms: float | None = Field(
        default=250.0, gt=0, allow_inf_nan=False,
        description="Milliseconds from the question to the answer: what fits of the reading that effort asks for is "
        "done; none: no limit, all of it",
    )  # fmt: skip
    rerank: bool = Field(default=True, description="Rerank with the cross-encoder; off: the order of recall")
    effort: Effort = Field(
        default="balanced",
        description="How many candidates the cross-encoder reads, as far as the budget goes: quick, a few; balanced, "
        "until more bring no better answers; thorough, all of them",
    )
    per_document: int | None = Field(
        default=None, ge=1, le=MAX_CANDIDATES,
        description="Most passages of one document among those that are returned; none: any number",
    )  # fmt: skip
    min_relevance: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False,
        description="Least relevance, 0 to 1, of what is returned: how likely a passage answers; none: no limit",
    )  # fmt: skip
    filters: dict[str, Any] | None = Field(
        default=None,
        description='Which passages may be found, by their metadata: {"lang": "en", "year": {"$gte": 2020}}; $eq $ne '
        "$gt $gte $lt $lte $in $nin $exists, and $and, $or, $not around them",
    )
    prompt_name: str | None = Field(
        default=None,
        description="Which of the bi-encoder's own prompts stands before the query; none: the one for queries",
    )
    prompt: str | None = Field(
        default=None, description="The text before the query for the bi-encoder, in place of its own; none: its own"
    )
    instruction: str | None = Field(
        default=None,
        description="What the search is for, in words, for the models that take an instruction; none: their own",
    )


class EngineOptions(BaseModel):
    """How an engine may run."""

    device: str = Field(default="auto", description="auto, cpu or cuda")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of each model; none: one a core")
    encoder_precision: Precision | Literal["auto"] = Field(
        default="auto", description="auto: FP16 on a GPU, FP32 on a CPU"
    )
    reranker_precision: Precision | Literal["auto"] = Field(
        default="auto", description="auto: FP16 on a GPU, INT8 on a CPU where the artifact has it"
    )
    runtime: RuntimeWish = Field(
        default="auto",
        description="packed: our kernels, no padding (BERT, RoBERTa, ModernBERT, Qwen3); auto: packed on a GPU where "
        "it supports the model, else onnx",
    )
    pipeline: Literal["auto", "staged", "resident"] = Field(
        default="auto",
        description="resident: a whole search on the device; auto: resident on a GPU where both models run packed",
    )
    gpu_memory_gib: float | None = Field(
        default=None, gt=0, allow_inf_nan=False,
        description="GPU memory to plan with, in GiB; none: what is free when the engine opens",
    )  # fmt: skip
    recall_weight: float | None = Field(
        default=None, ge=0.0, allow_inf_nan=False,
        description="Weight of recall's evidence in the final score; none: the collection's, or else the reranker's",
    )  # fmt: skip
    lexical_weight: float | None = Field(
        default=None, ge=0.0, allow_inf_nan=False,
        description="Weight of the lexical score beside the cosine in that evidence; 0: recall is by vectors alone; "
        "none: as above",
    )  # fmt: skip
    queue_tokens: int = Field(
        default=2_000_000, gt=0,
        description="Tokens that may wait; a request beyond them is refused. 2 million are some 100 searches of 100 "
        "passages",
    )  # fmt: skip
    early_exit: bool = Field(default=True, description="Use the reranker's early exit where it has one, on a CPU only")
    allow_partial: bool = Field(
        default=False,
        description="Search what is sound of a damaged collection: damaged segments are left out, and each answer says "
        "so; off: a damaged collection is refused",
    )
    warm_up: bool = Field(
        default=True,
        description="Measure the machine when the engine opens, about a second; off: the first requests teach it",
    )


def shortened(value: object, most: int = 60) -> str:
    """`value` as it is written, and not more than a line of it."""
    said = repr(value)
    return said if len(said) <= most else f"{said[:most]}…"


class _Settings(BaseModel):
    """Frozen, strict, unknown keys refused."""

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
            field = type(self).model_fields.get(name)
            hint = f"{name} is: {field.description}" if field is not None else f"known settings: {known}"
            raise InputError(f"setting {name} = {shortened(first['input'])}: {first['msg']}; {hint}") from error


class EngineSettings(_Settings, EngineOptions):
    """How an engine runs; given to `Engine.open`."""


class SearchSettings(_Settings, SearchOptions):
    """What one search is asked for."""

    def model_post_init(self, context: Any, /) -> None:
        """Raises InputError when more hits are asked for than candidates recalled, for a wrong filter or prompt."""
        if self.top_k > self.recalled:
            raise InputError(f"top_k {self.top_k} exceeds candidates {self.recalled}; raise candidates or lower top_k")
        if self.min_relevance is not None and not self.rerank:
            raise InputError("min_relevance is known of what was reranked; leave it out, or rerank")
        _ = self.filter, self.wish

    @property
    def recalled(self) -> int:
        """Candidates that recall is to give."""
        return max(CANDIDATES, self.top_k) if self.candidates is None else self.candidates

    @cached_property
    def wish(self) -> PromptWish:
        """`prompt_name`, `prompt` and `instruction`; raises InputError for what is none."""
        return PromptWish(self.prompt_name, self.prompt, self.instruction)

    @cached_property
    def filter(self) -> Filter | None:
        """`filters`, parsed; raises InputError for what is no filter."""
        return parse(self.filters) if self.filters else None
