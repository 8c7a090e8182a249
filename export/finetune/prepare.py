"""From folders of labelled text to mined sources: read, widen with pseudo-questions, hold back, mine, keep on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import BertModel

from ...engine.errors import ExportError, InputError
from ...engine.platform.durable_io import sha256
from ...engine.text.tokenizer import Tokenizer
from .data import Dataset, hold_out, joined, read_beir, thin
from .forward import Workers
from .judge_negatives import Judge, harden
from .listwise import ListSource
from .negatives import DEPTH, Mined, among, mine
from .precision import compute_dtype
from .progress import bar
from .pseudo import inverse_cloze, python_docs
from .settings import FinetuneSettings

log = logging.getLogger(__name__)
# Settings that change how long a training takes or what is measured after it, but not its course.
COURSELESS = {"threads", "checkpoint_every", "final_questions", "final_candidates"}
MINING = {
    *("seed", "start", "mining_length", "passages", "questions", "held_out", "pseudo", "weights", "margin"),
    *("shares", "whole"),
}
PSEUDO = ("python", "cloze")
# Rises when what mining keeps has another meaning. 2: vectors of passages with their titles. 3: negatives by evidence.
# 4: evidence with windows.
FORMAT = 4
# More validation questions are mined than an interim validation asks: the final fit of the fusion uses all.
VALIDATION_QUESTIONS = 150


def digest(base: Path, data: list[Path], settings: FinetuneSettings, *, mining: bool = False) -> str:
    """Of all that decides what a training sees and does; equal digests may share a checkpoint.

    With `mining`, of what decides the mined data only: trainings at other rates share it.
    """
    files = sorted(file for folder in data for file in Path(folder).rglob("*") if file.is_file())
    record = {
        "mined": FORMAT,
        "base": sha256(base / "model.safetensors"),
        "data": [(f"{file.parent.name}/{file.name}", file.stat().st_size) for file in files],
        "settings": settings.model_dump(include=MINING if mining else None, exclude=COURSELESS),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def prepare(
    base: Path, data: list[Path], work: Path, settings: FinetuneSettings, name: str, workers: Workers
) -> tuple[list[ListSource], dict[str, Mined]]:
    """Mined training sources and validation sets, taken from `work` when a run with the digest `name` left them there.

    Validation asks about documents that are held back, among those that are trained on.

    Raises CorpusError for data that cannot be read and ExportError when nothing is left to train on.
    """
    folder = work / f"mined-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    trains, held = _datasets(data, settings)
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=settings.mining_length, segments=True)
    model = BertModel.from_pretrained(base, local_files_only=True, dtype=compute_dtype()).eval()
    jobs: list[tuple[str, Callable[[Callable[[int], None]], Mined]]] = []
    total = 0
    with bar() as shown:
        task = shown.add_task("mining", total=None)

        def advance(count: int) -> None:
            shown.advance(task, count)

        for split, datasets in (("train", trains), ("held", held)):
            for index, dataset in enumerate(datasets):
                asked = _questions(settings, dataset.name) if split == "train" else VALIDATION_QUESTIONS
                total += len(dataset.passages) + min(asked, len(dataset.questions))
                jobs.append((f"{split}-{dataset.name}", _job(dataset, model, tokenizer, asked, settings, split, index)))
        shown.update(task, total=total)

        def one(job: tuple[str, Callable[[Callable[[int], None]], Mined]]) -> Mined:
            path = folder / f"{job[0]}.safetensors"
            if not path.is_file():
                job[1](advance).save(path)
                log.info("mined %s", job[0])
            return Mined.load(path)

        mined = dict(zip((name for name, _ in jobs), workers.map(one, jobs), strict=True))
    sources = [ListSource(d.name, mined[f"train-{d.name}"], _asked(settings, d.name)) for d in trains]
    beside = {source.name: source.mined for source in sources}
    own = {d.name: mined[f"held-{d.name}"] for d in held}
    return sources, {name: among(each, beside[name]) if name in beside else each for name, each in own.items()}


def hardened(
    sources: list[ListSource], judge: Judge, settings: FinetuneSettings, base: Path, folder: Path
) -> list[ListSource]:
    """`sources` with negatives ordered by `judge` (see `harden`), kept in `folder` under what decides them."""
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=settings.max_length, segments=True)
    with bar() as shown:
        task = shown.add_task("judging", total=sum(len(source.mined.questions) for source in sources))
        result = []
        for index, source in enumerate(sources):
            path = folder / f"judged-{str(settings.judge)[:16]}-{settings.max_length}-{source.name}.safetensors"
            if not path.is_file():
                rng = np.random.default_rng((settings.seed, 4, index))
                harder = harden(source.mined, judge, tokenizer, rng, lambda count: shown.advance(task, count))
                harder.save(path)
            result.append(replace(source, mined=Mined.load(path)))
            log.info(
                "%s: %d of %d questions kept", source.name, len(result[-1].mined.questions), len(source.mined.questions)
            )
    return result


def _job(
    dataset: Dataset,
    model: BertModel,
    tokenizer: Tokenizer,
    asked: int,
    settings: FinetuneSettings,
    split: str,
    index: int,
) -> Callable[[Callable[[int], None]], Mined]:
    def run(advance: Callable[[int], None]) -> Mined:
        clean = split == "train"
        # A training that goes on draws its questions anew; of a source that has more than are drawn, most are new.
        again = [int(settings.start[:8], 16)] if clean and settings.start else []
        rng = np.random.default_rng((settings.seed, 3, index, not clean, *again))
        return mine(
            dataset,
            model,
            tokenizer,
            questions=asked,
            rng=rng,
            clean=clean,
            margin=settings.margin,
            advance=advance,
        )

    return run


def _datasets(data: list[Path], settings: FinetuneSettings) -> tuple[list[Dataset], list[Dataset]]:
    """Training and validation sets by source; the two share no document."""
    unknown = set(settings.pseudo) - set(PSEUDO)
    if unknown:
        raise InputError(f"unknown pseudo-questions {', '.join(sorted(unknown))}; there are {', '.join(PSEUDO)}")
    names = [*(folder.name for folder in data), *settings.pseudo]
    if unknown := (set(settings.whole) | set(settings.shares)) - set(names):
        raise InputError(f"unknown sources {', '.join(sorted(unknown))}; this training has {', '.join(names)}")
    rng = np.random.default_rng((settings.seed, 0))
    whole = [read_beir(folder) for folder in data]
    if "python" in settings.pseudo:
        whole.append(python_docs(_passages(settings, "python") + settings.held_out, rng))
    trains, held = [], []
    for dataset in whole:
        thinned, left = thin(dataset, _passages(settings, dataset.name) + settings.held_out, rng)
        train, out = hold_out(thinned, min(settings.held_out, len(thinned.passages) // 5), rng)
        trains.append(joined(train, left) if dataset.name in settings.whole else train)
        held.append(out)
    if "cloze" in settings.pseudo:
        wanted = max(1, _passages(settings, "cloze") // max(1, len(whole)))
        trains.append(inverse_cloze([thin(dataset, wanted, rng)[0] for dataset in trains], rng))
        held.append(inverse_cloze([thin(dataset, wanted // 8, rng)[0] for dataset in held], rng))
    trains = [dataset for dataset in trains if dataset.questions and len(dataset.passages) > DEPTH // 16]
    held = [dataset for dataset in held if dataset.questions]
    if not trains:
        raise ExportError("the training set is empty: the data has too few questions and passages to train on")
    if not held:
        raise ExportError("no question is left for validation; give data with more documents (by title)")
    return trains, held


def _weight(settings: FinetuneSettings, name: str) -> float:
    return settings.weights.get(name, 0.15 if name in PSEUDO else 0.3)


def _asked(settings: FinetuneSettings, name: str) -> float:
    return settings.shares.get(name, _weight(settings, name))


def _questions(settings: FinetuneSettings, name: str) -> int:
    heaviest = max([*(settings.weights | settings.shares).values(), _asked(settings, name)])
    return max(1, round(settings.questions * _asked(settings, name) / heaviest))


def _passages(settings: FinetuneSettings, name: str) -> int:
    heaviest = max([*settings.weights.values(), _weight(settings, name)])
    return max(settings.passages // 2, round(settings.passages * _weight(settings, name) / heaviest))
