"""`finetune`: base model and labelled text in, adapter folder out."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ...engine.tokenizer import Tokenizer
from .adapter import load_base
from .forward import Workers
from .loop import Run
from .model import Reranker
from .prepare import digest, prepare
from .settings import Settings

log = logging.getLogger(__name__)


def run_training(base: Path, data: Sequence[Path], work: Path, settings: Settings, workers: Workers) -> Run:
    """Everything up to the first step: data mined, model built."""
    name = digest(base, list(data), settings)
    started = time.monotonic()
    model, _ = load_base(base)
    layers = model.config.num_hidden_layers
    sources, validation = prepare(base, list(data), work, settings, name, workers)
    log.info("mined %s in %.0f s", {s.name: len(s.mined.questions) for s in sources}, time.monotonic() - started)
    exits = tuple(layer for layer in settings.exits if layer < layers)
    tokenizer = functools.cache(
        lambda length: Tokenizer(
            base / "tokenizer.json", max_length=min(length, model.config.max_position_embeddings), segments=True
        )
    )
    return Run(
        settings=settings,
        digest=name,
        model=Reranker(model, rank=settings.rank, exits=exits, seed=settings.seed),
        sources=sources,
        validation=validation,
        tokenizer=tokenizer,
        pad_id=model.config.pad_token_id or 0,
        work=work,
        workers=workers,
    )
