"""The training loop.

A plain loop and not sentence-transformers' trainer: scores after several layers in one pass, ragged batches joined from
token ids as they are served, one thread a core that meets the others once a step, a budget in minutes and a
resume after `kill -9` would each have to be forced into it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress as Bar
from rich.progress import TaskID
from torch import nn

from ...engine.errors import ExportError
from ...engine.text.tokenizer import Tokenizer
from .averaging import BEGINS, Average
from .checkpoint import BEST, TrainingProgress, load_checkpoint, save_best, save_checkpoint
from .forward import Workers, gradients
from .listwise import Lists, ListSource, draw, schedule
from .model import Reranker
from .negatives import Mined
from .progress import bar
from .settings import FinetuneSettings
from .validate import JudgedQuestions, judge, quality

log = logging.getLogger(__name__)
EASY_SHARE, EASY_LEAST = 0.6, 0.1
# Later weights, trained longer and at a lower rate, are kept unless they are worse by more than this: with 20 questions
# a domain, validations of equally good weights differed by 0.005.
TOLERANCE = 0.01
# A trained model's gradients have norms of 6 to 35: clipped at 1, a batch that it knows moved it as far as any other.
CLIP = 10.0
# Standard deviation of one question's logits: 1 to 5 when trained, 0.02 before, 0.001 once collapsed.
COLLAPSED = 0.005


@dataclass(frozen=True)
class Run:
    """All that a training needs: model, data and where its state is kept."""

    settings: FinetuneSettings
    digest: str
    model: Reranker
    sources: list[ListSource]
    validation: dict[str, Mined]
    tokenizer: Callable[[int], Tokenizer]
    pad_id: int
    max_length: int
    """Tokens that validation and the final measurement read of a pair."""
    work: Path
    workers: Workers


def train(run: Run) -> TrainingProgress:
    """Train until the budget is spent or validation stops improving; `run.model` then has the best weights.

    Continues from the checkpoint in `run.work`, if there is one of the same settings.
    """
    optimizer = torch.optim.AdamW(run.model.groups(run.settings.rate), weight_decay=0.01)
    average = Average()
    progress = load_checkpoint(run.work, run.model, optimizer, run.digest, average=average) or TrainingProgress(
        run.digest
    )
    order = schedule(run.sources, run.settings.seed, run.settings.start)
    if not len(order):
        raise ExportError("the training set is empty: no question has both an answer and another passage")
    with bar() as shown:
        _steps(run, optimizer, average, progress, order, shown, shown.add_task("training", total=1.0))
    if load_checkpoint(run.work, run.model, None, run.digest, BEST) is None:
        raise ExportError(
            f"no validation was reached, so there are no weights to keep in {run.work}; give more minutes"
        )
    return progress


def _steps(
    run: Run,
    optimizer: torch.optim.Optimizer,
    average: Average,
    progress: TrainingProgress,
    order: npt.NDArray[np.int32],
    shown: Bar,
    task: TaskID,
) -> None:
    settings = run.settings
    clock = time.monotonic() - progress.seconds
    saved = progress.seconds
    validated = len(progress.history)
    entropies = np.zeros(0, dtype=np.float32)
    while (done := _share(settings, progress)) < 1.0 and progress.worse <= settings.patience:
        _set_rates(optimizer, settings, progress.step, done)
        fresh = _step(run, optimizer, order, progress.step)
        if done >= BEGINS:
            average.follow(run.model)
        entropies = fresh if not len(entropies) else 0.98 * entropies + 0.02 * fresh
        progress.step += 1
        progress.seconds = time.monotonic() - clock
        shown.update(
            task, completed=done, description=f"step {progress.step}, loss {entropies[len(fresh) // 2 - 1]:.2f}"
        )
        if progress.step % 50 == 0:
            log.info("step %d, %.0f s, losses %s", progress.step, progress.seconds, np.round(entropies, 2).tolist())
        due = progress.step / 100 if settings.steps else progress.seconds / 60
        if due >= (validated + 1) * settings.validate_every or _share(settings, progress) >= 1.0:
            validated = int(due / settings.validate_every)
            with average.inside(run.model):
                _validate(run, progress)
            progress.seconds = time.monotonic() - clock
            save_checkpoint(run.work, run.model, optimizer, average, progress)
            saved = progress.seconds
        elif progress.seconds - saved >= 60 * settings.checkpoint_every:
            save_checkpoint(run.work, run.model, optimizer, average, progress)
            saved = progress.seconds


def _step(
    run: Run, optimizer: torch.optim.Optimizer, order: npt.NDArray[np.int32], step: int
) -> npt.NDArray[np.float32]:
    settings = run.settings
    long = settings.long_every and step % settings.long_every == settings.long_every - 1
    lists = draw(
        run.sources,
        order,
        run.tokenizer(settings.max_length * (2 if long else 1)),
        step=step,
        lists=settings.lists,
        negatives=settings.negatives,
        easy=_easy(settings, step),
        seed=settings.seed,
        close=settings.close,
        close_share=settings.close_share,
    )
    grads, entropies = gradients(run.model, _parts(lists, settings.lists), run.pad_id, run.workers)
    parameters = list(run.model.trained().values())
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    return entropies.numpy()


def _easy(settings: FinetuneSettings, step: int) -> float:
    """Share of random negatives: a reranker that knows nothing needs them, one that goes on has had them."""
    if settings.start is not None or not settings.warmup:
        return EASY_LEAST
    return max(EASY_LEAST, EASY_SHARE * (1.0 - step / (10 * settings.warmup)))


def _parts(lists: Lists, count: int) -> list[Lists]:
    """Two halves, or one part for an odd count: the split decides how sums round, so it never follows the machine."""
    size = lists.evidence.shape[1]
    parts = 2 if count % 2 == 0 else 1
    each = count // parts
    return [
        Lists(
            lists.pairs.select(np.arange(part * each * size, (part + 1) * each * size)),
            lists.evidence[part * each : (part + 1) * each],
        )
        for part in range(parts)
    ]


def _share(settings: FinetuneSettings, progress: TrainingProgress) -> float:
    if settings.steps:
        return progress.step / settings.steps
    return progress.seconds / (60 * settings.minutes)


def _set_rates(optimizer: torch.optim.Optimizer, settings: FinetuneSettings, step: int, done: float) -> None:
    """Linear warm-up, then down in a straight line to a fiftieth of the peak."""
    factor = min(1.0, (step + 1) / max(1, settings.warmup)) * (1.0 - 0.98 * min(1.0, done))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _validate(run: Run, progress: TrainingProgress) -> None:
    judged = judge_all(run, run.model, run.settings.validation_questions, run.settings.validation_candidates)
    measured = quality(judged)
    score = measured.mean
    progress.history.append(
        {
            "step": progress.step,
            "minutes": round(progress.seconds / 60, 1),
            "fused": {name: round(layers[-1], 4) for name, layers in measured.fused.items()},
            "recall": {name: round(value, 4) for name, value in measured.recall.items()},
            "layers": np.round(np.mean(list(measured.fused.values()), axis=0), 4).tolist(),
            "bare": np.round(np.mean(list(measured.bare.values()), axis=0), 4).tolist(),
            "weight": measured.fusion.recall_weight,
        }
    )
    log.info("validation %s", progress.history[-1])
    if max(each.spread for each in judged.values()) < COLLAPSED:
        log.warning(
            "the reranker gives all passages one score: training has collapsed; begin again with half the rate (%g)",
            run.settings.rate,
        )
    if score >= progress.best - TOLERANCE:
        progress.best, progress.best_step, progress.worse = max(score, progress.best), progress.step, 0
        save_best(run.work, run.model, progress)
    else:
        progress.worse += 1


def judge_all(run: Run, model: nn.Module, questions: int, candidates: int) -> dict[str, JudgedQuestions]:
    """`model`'s scores on every validation domain that has a question whose answer recall found."""
    judged = {
        name: judge(
            model,
            run.tokenizer(run.max_length),
            mined,
            pad_id=run.pad_id,
            questions=questions,
            candidates=candidates,
            workers=run.workers,
        )
        for name, mined in run.validation.items()
    }
    found = {name: domain for name, domain in judged.items() if domain.gains}
    if not found:
        raise ExportError("recall finds the answer of no validation question: check that the qrels fit the corpus")
    return found
