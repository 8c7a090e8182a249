"""What a training can be told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FinetuneSettings(BaseModel):
    """`minutes` ends the training unless `steps` is given. What an adapter was trained with stands in its record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float = Field(default=90.0, gt=0)
    """Wall-clock time of the training itself: mining comes before, the final measurement after it."""
    steps: int | None = Field(default=None, gt=0)
    """Train exactly so many steps: then equal settings give equal weights on equal machines."""
    seed: int = 0
    """Of every draw. A training that goes on from an adapter needs that adapter's seed, sizes and data, or its
    validation asks about documents that were trained on."""
    start: str | None = None
    """sha256 of the adapter weights that the training goes on from; None: the base alone."""
    judge: str | None = None
    """Fingerprint of the exported reranker that orders negatives by how hard they are; None: by cosine."""
    rank: int = Field(default=64, gt=0)
    exits: tuple[int, ...] = (2, 3, 4)
    rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate. 7e-4 made the model collapse; see `Reranker.groups`."""
    warmup: int = 100
    """Steps in which the learning rate rises; the share of random (easy) negatives falls over ten times as many."""
    lists: int = Field(default=4, gt=0)
    """Questions a step."""
    negatives: int = Field(default=7, gt=0)
    close: int = Field(default=16, gt=0)
    """Candidates that count as close; `close_share` of the negatives that are candidates are drawn from them."""
    close_share: float = Field(default=0.5, ge=0, le=1)
    max_length: int = Field(default=224, gt=8)
    """Tokens of a training pair. At 160 half of SQuAD's pairs and a sixth of their tokens were cut off, and a passage
    was called right whose answer was gone. Every `long_every`-th step reads twice as many."""
    long_every: int = 8
    mining_length: int = 128
    """Tokens of a passage that the bi-encoder reads for mining: what all-MiniLM-L6-v2 was trained on."""
    margin: float = Field(default=0.10, ge=0)
    """A passage whose cosine is this far above the answer's is taken for an answer that nobody labelled. Wide, since
    for a third of SQuAD's questions the bi-encoder prefers a wrong paragraph of the right article, to be learnt from.
    """
    passages: int = Field(default=8000, gt=0)
    """Passages mined from the largest source; the others have their share by weight, at least half as many."""
    questions: int = Field(default=9000, gt=0)
    """Training questions of the heaviest source; the others have their share by weight."""
    held_out: int = Field(default=400, gt=0)
    """Passages a source keeps back for validation, in whole documents."""
    validation_questions: int = 20
    validation_candidates: int = 12
    final_questions: int = 150
    """Questions and candidates of each domain in the final measurement, which also fits the fusion."""
    final_candidates: int = 20
    validate_every: float = Field(default=10.0, gt=0)
    """Minutes (or hundreds of steps, when `steps` is given) between validations."""
    checkpoint_every: float = Field(default=4.0, ge=0)
    """Minutes between checkpoints."""
    patience: int = 20
    """Validations in a row clearly below the best that end the training."""
    threads: int = Field(default=2, gt=0)
    pseudo: tuple[str, ...] = ("python", "cloze")
    weights: dict[str, float] = Field(
        default_factory=lambda: {"squad-train": 0.4, "nq-qed-train": 0.28, "medquad": 0.1, "python": 0.1, "cloze": 0.12}
    )
    """Share of the training examples by source; a source not named gets 0.3 (labelled) or 0.15 (pseudo). It decides
    too how many passages of a source are read, and so which documents are held back."""
    shares: dict[str, float] = Field(default_factory=dict)
    """In place of `weights` for questions alone: what is held back stays held back."""
    whole: tuple[str, ...] = ()
    """Sources of which every document but those held back is trained on, however few `passages` are read of others."""
