"""The training itself, by sentence-transformers' trainer: one process a GPU or a core, or all in this process.

Run as a program by torchrun (`python -m torch.distributed.run -m tandem.export.finetune.trainer PLAN`), whose processes
share each step's lists between them. One thread a process: PyTorch splits every operation over its threads and waits
for all of them at its end, so on a machine that others use too each of a step's 1,500 waits lasts until the last thread
runs again (measured: 1.5 s a step on two idle cores, 9 to 18 s beside two busy processes).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset, load_from_disk
from pydantic import BaseModel, ConfigDict
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from transformers import PrinterCallback

from ...engine.errors import ExportError
from ...engine.platform.cpu_features import has_bfloat16
from ...engine.platform.device import available_cores
from ...engine.platform.durable_io import write_durably
from .loss import ListLoss
from .prepare import LISTS, TRAIN, validation_lists
from .reranker import Reranker, as_cross_encoder
from .settings import FinetuneSettings
from .validate import DomainEvaluator

TRAINING = "training"
# A trained model's gradients have norms of 6 to 35: clipped at 1, a batch that it knows moved it as far as any other.
CLIP = 10.0
# Steps at rate 0 whose time says how many fit into the minutes.
TRIAL = 8


class TrainingPlan(BaseModel):
    """What the processes of a training are told, in a file.

    work: the folder with the `lists` of `prepare`, in which checkpoints and the outcome are left
    model: arguments of `Reranker`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    work: Path
    model: dict[str, Any]
    settings: FinetuneSettings


class TrainingOutcome(BaseModel):
    """What a training leaves in its folder beside the best weights."""

    steps: int
    kept_step: int
    minutes: float
    processes: int
    history: list[dict[str, float]]


def run(plan: TrainingPlan) -> TrainingOutcome:
    """Train by `plan`, or go on where an earlier run of it was stopped; returns what came out.

    Raises ExportError when a process fails.
    """
    path, processes = plan.work / "plan.json", plan.settings.processes or usual_processes()
    write_durably(path, plan.model_dump_json(indent=2).encode())
    if processes == 1:
        with _one_thread(), contextlib.redirect_stdout(sys.stderr):
            train(plan)
    else:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        done = subprocess.run(
            [*command, "-m", __name__, str(path)], check=False, stdout=sys.stderr,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        if done.returncode:
            raise ExportError(f"the training ended early (status {done.returncode}); the same command goes on with it")
    return TrainingOutcome.model_validate_json((plan.work / "outcome.json").read_bytes())


def usual_processes() -> int:
    """One for each GPU, or else for each core."""
    return torch.cuda.device_count() or available_cores()


def train(plan: TrainingPlan) -> None:
    """One process's part. The first one writes the best weights and the outcome."""
    torch.manual_seed(plan.settings.seed)
    model = as_cross_encoder(Reranker(**plan.model))
    if not torch.cuda.is_available():  # the fused kernel's backward pass is slow on CPUs: a sixth of a step
        model[0].inner.transformers_model.set_attn_implementation("eager")
    lists, domains = load_from_disk(str(plan.work / LISTS / TRAIN)), validation_lists(plan.work)
    domains = {name: _some(asked, plan.settings) for name, asked in domains.items()}
    folder = plan.work / TRAINING
    steps = _steps(plan, lists)
    trainer = _trainer(plan, model, lists, folder, steps, domains)
    checkpoint = latest(folder)
    done = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    here = steps - (_step(checkpoint) if checkpoint else 0)
    if trainer.is_world_process_zero():
        model[0].save(str(plan.work))
        state, minutes = trainer.state, done.metrics["train_runtime"] / 60
        outcome = TrainingOutcome(
            steps=steps, kept_step=_step(state.best_model_checkpoint) if state.best_model_checkpoint else steps,
            minutes=round(minutes * steps / max(1, here), 1), processes=trainer.args.world_size,
            history=[each for each in state.log_history if "eval_mean" in each],
        )  # fmt: skip
        write_durably(plan.work / "outcome.json", outcome.model_dump_json(indent=2).encode())


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`: its state is written last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=_step, default=None)


def _step(checkpoint: str | Path) -> int:
    return int(Path(checkpoint).name.rpartition("-")[2])


def _steps(plan: TrainingPlan, lists: Dataset) -> int:
    """The steps of this training. Those that fit into a time are found once, and kept for runs that go on."""
    path, settings = plan.work / "steps.json", plan.settings
    passes = settings.epochs / math.ceil(settings.epochs)  # each epoch has lists of its own
    steps = settings.steps or max(1, round(len(lists) * passes / settings.lists))
    if settings.steps or not settings.minutes:
        return steps
    if not path.is_file():
        trial = _trainer(plan, as_cross_encoder(Reranker(**plan.model)), lists, plan.work / "trial", TRIAL, None)
        seconds = trial.train().metrics["train_runtime"] / TRIAL
        fitting = broadcast_object_list([max(1, min(steps, int(60 * settings.minutes / seconds)))])[0]
        write_durably(path, json.dumps(fitting).encode())
    return int(json.loads(path.read_text()))


def _trainer(
    plan: TrainingPlan, model: Any, lists: Dataset, folder: Path, steps: int, domains: dict[str, Dataset] | None
) -> CrossEncoderTrainer:
    """The library's trainer for so many steps; without `domains` a trial that changes no weight and keeps nothing."""
    settings, cpu = plan.settings, not torch.cuda.is_available()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    every = max(1, steps // settings.validations)
    kept: dict[str, Any] = {"save_strategy": "no", "learning_rate": 0.0, "disable_tqdm": True}
    if domains is not None:
        kept = {
            "eval_strategy": "steps", "eval_steps": every, "save_strategy": "steps", "save_steps": every,
            "save_total_limit": 2, "load_best_model_at_end": True, "metric_for_best_model": "eval_mean",
            "learning_rate": settings.peak, "disable_tqdm": not sys.stderr.isatty(),
            "learning_rate_mapping": {"evidence_weight": 10 * settings.peak},  # a logarithm near 3
        }  # fmt: skip
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=max(1, settings.lists // processes),
        warmup_steps=min(100, steps // 10), weight_decay=0.01, max_grad_norm=CLIP, seed=settings.seed, use_cpu=cpu,
        bf16=has_bfloat16() if cpu else torch.cuda.is_bf16_supported(), ddp_find_unused_parameters=False,
        ddp_backend="gloo" if cpu and processes > 1 else None, dataloader_pin_memory=not cpu,
        logging_steps=min(50, every), report_to="none", **kept,
    )  # fmt: skip
    trainer = CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=lists,
        loss=ListLoss(model, settings.cosine_weight, settings.label_weight),
        evaluator=DomainEvaluator(domains) if domains is not None else None,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def _some(asked: Dataset, settings: FinetuneSettings) -> Dataset:
    """What is asked while it trains: the last validation has all questions."""
    return asked.select(range(min(len(asked), max(1, settings.validation_questions // 4))))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """Train by the plan in the file that the command names."""
    torch.set_num_threads(1)
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger(__package__).setLevel(logging.INFO)
    for library in ("transformers", "sentence_transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)  # what libraries ask each other by old names
    try:
        train(TrainingPlan.model_validate_json(Path(sys.argv[1]).read_bytes()))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
