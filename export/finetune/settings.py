"""What a training can be told. The options of `tandem finetune` are made of this."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

PEAK_OF_ADAPTER, PEAK_OF_WHOLE = 2e-4, 4e-5


class FinetuneSettings(BaseModel):
    """What a reranker was trained with stands in its record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float | None = Field(
        default=None,
        gt=0,
        description="As many steps as fit into this time by the speed of the first ones, at most --epochs",
    )
    epochs: float = Field(
        default=1.0, gt=0, description="How often each question is asked, each time with other negatives"
    )
    rank: int = Field(
        default=64, ge=0, description="Rank of the adapter; 0 trains all weights and writes a whole model"
    )
    rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate; none is 2e-4 for an adapter and 4e-5 for all weights"
    )
    questions: int = Field(default=9000, gt=0, description="Questions of each source, at most")
    passages: int = Field(default=20000, gt=0, description="Passages of each source, at most, in whole documents")
    negatives: int = Field(default=5, gt=0, description="Passages that are no answer, for each question")
    lists: int = Field(default=8, gt=0, description="Questions a step, over all processes")
    length: int = Field(default=256, gt=8, description="Tokens of a training pair")
    # Wide, since for a third of SQuAD's questions the bi-encoder prefers a wrong paragraph of the right article.
    margin: float = Field(
        default=0.10,
        ge=0,
        description="Passages with a cosine this far above the answer's are likely unmarked answers, left out",
    )
    held_out: int = Field(
        default=400, gt=0, description="Passages that a source keeps back where no other source validates"
    )
    processes: int | None = Field(
        default=None, gt=0, description="Processes; none is one for each GPU, or else for each core"
    )
    seed: int = Field(default=0, description="Seed of every draw")
    steps: int | None = Field(
        default=None, gt=0, description="Exactly so many steps, whatever --epochs and --minutes say"
    )
    exits: tuple[int, ...] | None = None
    """Layers after which a candidate may be judged early; None: after a third, a half and two thirds of them."""
    cosine_weight: float = Field(default=20.0, ge=0)
    """Of the bi-encoder's cosine in what the reranker is to order by."""
    label_weight: float = Field(default=2.0, gt=0)
    """Of the label, likewise: with `cosine_weight` 0 and a large one here the label alone counts."""
    validations: int = Field(default=10, gt=0)
    """In the course of the training; each is a checkpoint too."""
    validation_questions: int = Field(default=150, gt=0)
    """Of each domain. While it trains, a quarter of them is asked."""
    validation_candidates: int = Field(default=20, gt=0)

    @property
    def peak(self) -> float:
        """The rate that counts."""
        return self.rate or (PEAK_OF_ADAPTER if self.rank else PEAK_OF_WHOLE)
