"""`finetune`: a base model and labelled text in, an adapter folder with its model card out."""

from __future__ import annotations

import functools
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...engine.errors import ExportError, InputError
from ...engine.scoring.fit import fit_over
from ...engine.text.tokenizer import Tokenizer
from ..bundled import BUNDLED
from .adapter import load_base, shape_of
from .card import card
from .checkpoint import TrainingProgress
from .evaluate import judge_recalled, left_out, recall_folder, report
from .forward import Workers
from .judge_negatives import Judge
from .loop import Run, judge_all, train
from .model import Reranker
from .precision import compute_dtype
from .prepare import digest, hardened, prepare
from .record import AdapterRecord, BaseShape
from .scorer import Scorer
from .settings import FinetuneSettings
from .validate import measured_with
from .warm_start import find_start, fingerprint, mix_weights, take_weights, tell_of_leaks
from .write import copy_weights, write_record, write_weights

log = logging.getLogger(__name__)
WORK = "work"
# As many pairs a step in shorter lists, three negatives of the six hardest and one of all: the hardest should have most
# of a list's loss (not measured apart from the rest; see bench/LOG.md).
JUDGED: dict[str, Any] = {"lists": 6, "negatives": 4, "close": 6, "close_share": 0.75}
# A reranker that goes on has most lists right: as many pairs a step in more questions, all negatives of the dozen with
# the best evidence, which hold what it confuses (bench/LOG.md).
AGAIN: dict[str, Any] = {"lists": 8, "negatives": 3, "close": 12, "close_share": 1.0}
# So much nDCG@10 on held-back questions of the training's own sources is given for unseen collections. With .005, and
# validation among a few hundred passages, it chose 64 where 16 to 24 is best among thousands (bench/LOG.md).
CAUTION = 0.002


def finetune(
    base: str | Path,
    data: Iterable[Path],
    out: Path,
    *,
    minutes: float = 90.0,
    seed: int = 0,
    rank: int = 64,
    rate: float = 3e-4,
    pseudo: Sequence[str] = ("python", "cloze"),
    resume: bool = True,
    tests: Iterable[Path] = (),
    test_questions: int = 300,
    settings: FinetuneSettings | None = None,
    start: str | Path | None = None,
    judge: Path | None = None,
    questions: int = 9000,
    max_length: int = 224,
    margin: float = 0.10,
    shares: dict[str, float] | None = None,
    whole: Sequence[str] = (),
    mix: str | Path | None = None,
    mix_share: float = 0.5,
) -> AdapterRecord:
    """Train a reranker adapter on `base` and write it to the folder `out`; returns its record.

    base:   a bundled name (`minilm-l6`) or the folder of a BERT encoder with safetensors weights
    data:   BEIR folders to train on; documents of each are held back for validation
    tests:  BEIR folders that are only measured, with up to `test_questions` questions each
    resume: continue what `out/work` holds of a training with the same settings; else begin anew
    settings: everything at once, in place of the single ones
    start:  an adapter on `base` to go on from (a bundled name or a folder); its rank and exits are kept, and unless
            `settings` are given lists have the sizes AGAIN
    judge:  an exported reranker made from `base`; it reads each question's likeliest candidates first, and what it
            puts highest are the negatives (see `harden`), in lists of the sizes JUDGED, whatever `settings` say
    questions: training questions of the heaviest source     max_length: tokens of a training pair
    shares: of the questions by source, where they are not to be as `FinetuneSettings.weights` says
    whole:  sources of which all documents are trained on but those held back; of others some `passages` of `settings`
    margin: a passage whose cosine is this far above the answer's is no negative but a likely answer nobody labelled
    mix:    an adapter of the same line (what this training began with, or what that began with); what is written is the
            mean of both, `mix_share` of it the trained weights. A finished training may be mixed again otherwise

    `out/work` keeps mined data and checkpoints and may be deleted afterwards. Raises CorpusError for data that cannot
    be read, ExportError for a base, checkpoint or amount of data that cannot be trained on.
    """
    chosen = settings or FinetuneSettings(
        minutes=minutes,
        seed=seed,
        rank=rank,
        rate=rate,
        pseudo=tuple(pseudo),
        questions=questions,
        max_length=max_length,
        margin=margin,
        shares=shares or {},
        whole=tuple(whole),
    )
    folders, name, path = [Path(folder) for folder in data], *_base(base)
    if not folders and not chosen.pseudo:
        raise InputError("there is nothing to train on: give at least one --data folder or --pseudo source")
    begun = None if start is None else find_start(start, path)
    if begun is not None:
        rank, exits = begun[1].trained["settings"]["rank"], begun[1].exits
        lists = AGAIN if settings is None else {}
        chosen = chosen.model_copy(update={"start": fingerprint(begun[0]), "rank": rank, "exits": exits, **lists})
    judging = None if judge is None else Judge.open(judge, path, chosen.threads)
    if judging is not None:
        chosen = chosen.model_copy(update={"judge": judging.model.artifact.fingerprint, **JUDGED})
    mixed = None if mix is None else (find_start(mix, path)[0], mix_share)
    if not 0.0 < mix_share <= 1.0:
        raise InputError(f"the share of the trained weights in a mixture is {mix_share:g}; give one above 0, at most 1")
    work = Path(out) / WORK
    if not resume and work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with Workers(chosen.threads) as workers:
        run, shape = prepare_run(path, name, folders, work, chosen, workers, judging)
        if begun is not None:
            take_weights(run.model, begun[0], begun[1].fusion.recall_weight)
            tell_of_leaks(begun[1], [source.name for source in run.sources], chosen)
        progress = train(run)
        if mixed is not None:
            mix_weights(run.model, *mixed)
        files = write_weights(Path(out), run.model, name)
        trained, history = _trained(run, progress, begun, mixed), progress.history
        return _finish(Path(out), path, shape, files, run, trained, history, [*map(Path, tests)], test_questions)


def refit(
    base: str | Path,
    data: Iterable[Path],
    out: Path,
    adapter: str | Path,
    *,
    tests: Iterable[Path] = (),
    test_questions: int = 300,
) -> AdapterRecord:
    """Measure `adapter` (a bundled name or a folder) anew, fit its fusion, and write it so to the folder `out`.

    For evidence that has changed since, or other data: nothing is trained. With the data that the adapter was trained
    on, validation asks about what that training held back. Raises as `finetune` does.
    """
    folders, name, path = [*map(Path, data)], *_base(base)
    folder, record = find_start(adapter, path)
    if Path(out).resolve() == folder.resolve():
        raise InputError(f"{out} holds the adapter itself; write the measured one to another folder")
    # One question a source: mining is for the passages, and for the questions that are held back.
    settings = FinetuneSettings(**record.trained["settings"] | {"questions": 1})
    work = Path(out) / WORK
    work.mkdir(parents=True, exist_ok=True)
    with Workers(settings.threads) as workers:
        run, shape = prepare_run(path, name, folders, work, settings, workers)
        tell_of_leaks(record, [source.name for source in run.sources], settings)
        files = copy_weights(folder, Path(out))
        return _finish(
            Path(out), path, shape, files, run, record.trained, record.quality["history"], [*map(Path, tests)],
            test_questions,
        )  # fmt: skip


def prepare_run(
    base: Path,
    name: str,
    data: list[Path],
    work: Path,
    settings: FinetuneSettings,
    workers: Workers,
    judge: Judge | None = None,
) -> tuple[Run, BaseShape]:
    """Everything up to the first step: data mined, model built."""
    started = time.monotonic()
    model, _ = load_base(base)
    shape = shape_of(model, name)
    mark = digest(base, data, settings)
    mining = digest(base, data, settings, mining=True)
    sources, validation = prepare(base, data, work, settings, mining, workers)
    if judge is not None:
        sources = hardened(sources, judge, settings, base, work / f"mined-{mining}")
    log.info("mined %s in %.0f s", {s.name: len(s.mined.questions) for s in sources}, time.monotonic() - started)
    longest = model.config.max_position_embeddings
    run = Run(
        settings=settings,
        digest=mark,
        model=Reranker(
            model,
            rank=settings.rank,
            exits=tuple(layer for layer in settings.exits if layer < shape.layers),
            seed=settings.seed,
        ),
        sources=sources,
        validation=validation,
        tokenizer=functools.cache(
            lambda length: Tokenizer(base / "tokenizer.json", max_length=min(length, longest), segments=True)
        ),
        pad_id=model.config.pad_token_id or 0,
        max_length=longest,
        work=work,
        workers=workers,
    )
    return run, shape


def _finish(
    out: Path,
    base: Path,
    shape: BaseShape,
    files: dict[str, str],
    run: Run,
    trained: dict[str, Any],
    history: list[dict[str, Any]],
    tests: list[Path],
    test_questions: int,
) -> AdapterRecord:
    """Measure the written adapter, fit its fusion and write its record and card."""
    scorer = Scorer(base, out)
    settings = run.settings
    judged = judge_all(run, scorer, settings.final_questions, settings.final_candidates)
    domains = {name: domain.last() for name, domain in judged.items()}
    fusion = fit_over(list(domains.values()), f"held-back questions of {', '.join(domains)}", caution=CAUTION)
    measured = measured_with(fusion, judged)
    results: dict[str, Any] = {
        "validation": {
            name: {
                "recall": measured.recall[name],
                "rerank": measured.bare[name][-1],
                "fused": measured.fused[name][-1],
            }
            for name in judged
        },
        "domain_left_out_of_the_fit": left_out(domains, CAUTION),
        "history": history,
        "test": {},
    }
    for folder in tests:
        recalled = recall_folder(base, folder, questions=test_questions, seed=settings.seed, workers=run.workers)
        found = judge_recalled(
            scorer, base, recalled, max_length=run.max_length, pad_id=run.pad_id, workers=run.workers
        )
        results["test"][folder.name] = report(found, scorer, fusion.recall_weight)
        log.info("test %s: %s", folder.name, results["test"][folder.name])
    record = AdapterRecord(
        base=shape,
        files=files,
        fusion=fusion,
        exits=scorer.exits,
        max_length=run.max_length,
        trained=trained,
        quality=results,
    )
    write_record(out, record, card(record))
    return record


def _trained(
    run: Run, progress: TrainingProgress, begun: tuple[Path, AdapterRecord] | None, mixed: tuple[Path, float] | None
) -> dict[str, Any]:
    mixture = {} if mixed is None else {"mixed": {"weights": fingerprint(mixed[0]), "share": mixed[1]}}
    return {
        **mixture,
        "data": {source.name: len(source.mined.questions) for source in run.sources},
        "steps": progress.step,
        "kept_step": progress.best_step,
        "minutes": round(progress.seconds / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {run.settings.threads} threads, {_dtype()}",
        "settings": run.settings.model_dump(),
        "start": None if begun is None else {"name": begun[0].name, **begun[1].trained},
    }


def _dtype() -> str:
    return str(compute_dtype()).removeprefix("torch.")


def _base(base: str | Path) -> tuple[str, Path]:
    """The base's name and folder."""
    bundled = BUNDLED.get(str(base))
    if bundled is not None and bundled.adapter is None:
        return str(base), bundled.folder()
    if not Path(base).is_dir():
        names = ", ".join(name for name, each in BUNDLED.items() if each.adapter is None)
        raise ExportError(f"{base} is neither a folder nor a bundled base ({names})")
    return Path(base).name, Path(base)
