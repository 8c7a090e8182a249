"""`finetune`: a base model and labelled text in, an adapter (or a whole model) with its model card out."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import ExportError, InputError
from ...engine.platform.cpu_features import has_bfloat16
from ...engine.platform.durable_io import sha256, write_durably
from ...engine.text.tokenizer import Tokenizer
from ..bundled import BUNDLED
from ..source.adapter import WEIGHTS, read_weights, shape_of
from ..source.library import Loaded, load
from ..source.record import AdapterRecord, read_record
from ..source.resolve import Origin, resolve
from ..source.wishes import Wishes
from .card import card
from .evaluate import fitted, judge_recalled, left_out, recall_folder, report
from .judge import Judge
from .labelled import Labelled, Question
from .prepare import Sources, prepare
from .recall import Recall, Recaller
from .reranker import Reranker
from .settings import FinetuneSettings
from .teacher import Teacher
from .trainer import TrainingPlan, run
from .write import copy_weights, write_record, write_weights

log = logging.getLogger(__name__)
WORK = "work"
ENCODER = "minilm-l6"
# So much nDCG@10 on validation questions is given for unseen collections. With .005, and validation among a few hundred
# passages, it chose 64 where 16 to 24 is best among thousands (bench/LOG.md).
CAUTION = 0.002


def finetune(
    base: str,
    data: Iterable[str | Path],
    out: Path,
    *,
    validate: Iterable[str | Path] = (),
    tests: Sequence[Path] = (),
    start: str | Path | None = None,
    judge: Path | None = None,
    encoder: str = ENCODER,
    teacher: str | None = None,
    test_questions: int = 300,
    resume: bool = True,
    trust_remote_code: bool = False,
    settings: FinetuneSettings | None = None,
) -> AdapterRecord:
    """Train a reranker on `base` and write it to the folder `out`; returns its record.

    base:     a bundled name, the folder or the Hub id of an encoder or a cross-encoder of a family that is exported
    data:     BEIR folders, or `python:NAME`, to train on
    validate: sources that are never trained on: the mean over them decides which weights are kept. Without any, whole
              documents of each source of `data` are held back
    tests:    BEIR folders that are only measured, with up to `test_questions` questions each
    start:    an adapter on `base` to go on from (a bundled name or a folder)
    judge:    an exported reranker that reads each question's likeliest candidates; what it puts highest are the
              negatives (see `Judge`)
    encoder:  the bi-encoder that recalls: a bundled name, a folder or a Hub id
    teacher:  another bi-encoder, whose cosines the reranker learns to order by; None takes those of `encoder`
    resume:   go on with what `out/work` holds of a training with the same settings; else begin anew

    `out/work` keeps mined data and checkpoints and may be deleted afterwards. Raises CorpusError for data that cannot
    be read, ExportError for a model, checkpoint or amount of data that cannot be trained on.
    """
    chosen, sources = settings or FinetuneSettings(), Sources(tuple(map(str, data)), tuple(map(str, validate)))
    if not sources.data:
        raise InputError("there is nothing to train on: give at least one --data folder")
    origin, judging = _origin(base, start, trust_remote_code), Judge.open(judge) if judge else None
    said = {
        "settings": chosen.model_dump(mode="json", exclude={"processes"}), "encoder": encoder, "teacher": teacher,
        "judge": judging.model.artifact.fingerprint if judging else None,
    }  # fmt: skip
    work = _claim(Path(out) / WORK, [said, sources.mark(), sources.validate, origin.name, _fingerprint(origin)], resume)
    model: dict[str, Any] = {
        "base": str(origin.folder), "adapter": str(origin.adapter) if origin.adapter else None,
        "trusted": origin.trusted, "rank": chosen.rank, "exits": chosen.exits, "length": chosen.length,
    }  # fmt: skip
    recall = _recaller(Reranker(**model).tokenizer, encoder, work)  # what cannot be trained is refused before mining
    taught = (lambda: Teacher(_encoder(teacher))) if teacher else None
    lists = prepare(sources, chosen, recall, judging, work, teacher=taught)
    outcome = run(TrainingPlan(work=work, model=model, settings=chosen))
    files = write_weights(Path(out), Reranker.load(str(work)))
    begun = read_record(origin.trained)
    trained = {
        "data": lists.counts, "drawn": sources.drawn(chosen), **outcome.model_dump(exclude={"history"}), **said,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "start": begun and {"name": begun.base.name, **begun.trained},
    }  # fmt: skip
    _tell_of_leaks(begun, lists.domains, trained["drawn"])
    quality = {"history": outcome.history}
    return _finish(origin, Path(out), files, lists.domains, trained, quality, recall, tests, test_questions)


def refit(
    base: str,
    data: Iterable[str | Path],
    out: Path,
    adapter: str | Path,
    *,
    validate: Iterable[str | Path] = (),
    tests: Sequence[Path] = (),
    encoder: str = ENCODER,
    test_questions: int = 300,
) -> AdapterRecord:
    """Measure `adapter` (a bundled name or a folder) anew, fit its fusion, and write it so to the folder `out`.

    For evidence that has changed since, or other data: nothing is trained. With the sources and the seed that it was
    trained with, validation asks about what that training held back. Raises as `finetune` does.
    """
    origin, sources = _origin(base, adapter, False), Sources(tuple(map(str, data)), tuple(map(str, validate)))
    if Path(out).resolve() == origin.trained.resolve():
        raise InputError(f"{out} holds the adapter itself; write the measured one to another folder")
    begun = read_record(origin.trained)
    if begun is None:
        raise ExportError(f"{origin.trained} has no adapter.json: only what `tandem finetune` wrote is measured anew")
    former = begun.trained.get("settings", {})
    # What was held back of the training's own sources is drawn again as it was; whole domains are asked as by default.
    asked = ("seed", "passages", "held_out", "questions", "validation_questions", "validation_candidates")
    kept = ("seed",) if sources.validate else asked
    settings = FinetuneSettings(**{name: former[name] for name in kept if name in former})
    work = _claim(Path(out) / WORK, ["refit", sources.mark(), sources.validate, _fingerprint(origin)], True)
    recall = _recaller(_opened(origin, origin.trained).tokenizer, encoder, work)
    domains = prepare(sources, settings, recall, None, work, train=False).domains
    _tell_of_leaks(begun, domains, sources.drawn(settings))
    files = copy_weights(origin.trained, Path(out))
    quality = {"history": begun.quality.get("history", [])}
    return _finish(origin, Path(out), files, domains, begun.trained, quality, recall, tests, test_questions)


def _origin(base: str, start: str | Path | None, trusted: bool) -> Origin:
    """The model's folder with the adapter to go on from."""
    bundled = BUNDLED.get(str(start))
    adapter = Path(start) if start else None
    if bundled is not None and bundled.adapter is not None:
        adapter = bundled.adapter
    kind = BUNDLED[base].kind if base in BUNDLED and adapter is None else "bi-encoder"
    return resolve(base, kind, revision=None, adapter=adapter, trust_remote_code=trusted)


def _opened(origin: Origin, out: Path) -> Reranker:
    """What was written to `out`: an adapter on `origin`, or a whole model."""
    lora = (out / WEIGHTS).is_file()
    base, adapter = (origin.folder, str(out)) if lora else (out, None)
    reranker = Reranker(str(base), adapter, origin.trusted, rank=int(lora), exits=None, length=None)
    reranker.to(_device())
    return reranker


def _fingerprint(origin: Origin) -> str | None:
    """sha256 of what is gone on from: a training from other weights is another training."""
    if origin.adapter is None:
        return None
    read_weights(origin.adapter)
    return sha256(origin.adapter / WEIGHTS)


def _claim(work: Path, said: list[Any], resume: bool) -> Path:
    """Take `work` for a training of which this was `said`; raises ExportError when another one's is there."""
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    mark, path = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(), work / "said.txt"
    if path.is_file() and path.read_text() != mark:
        raise ExportError(
            f"{work} is of a training with other settings or data; give another --out, or --no-resume to start again"
        )
    write_durably(path, mark.encode())
    return work


def _recaller(tokenizer: Any, encoder: str, work: Path) -> Recaller:
    """The first stage: the bi-encoder, and the reranker's tokenizer, whose ids tell how close words stand together."""
    tokenizer.save_pretrained(str(work / "tokenizer"))
    words = Tokenizer(work / "tokenizer" / "tokenizer.json", max_length=512, segments=False)

    @cache
    def opened() -> Loaded:
        return _encoder(encoder)

    def recall(source: Labelled, questions: list[Question]) -> Recall:
        return Recall.of(source, questions, opened(), words)

    return recall


def _encoder(name: str) -> Loaded:
    """The bi-encoder `name`, ready to encode many texts."""
    loaded = load(resolve(name, "bi-encoder", revision=None, adapter=None), "bi-encoder", Wishes())
    loaded.library.to(_device(), torch.bfloat16 if has_bfloat16() else torch.float32)
    return loaded


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tell_of_leaks(begun: AdapterRecord | None, domains: Iterable[str], drawn: str) -> None:
    """Warn where validation may ask about documents that the start was trained on."""
    if begun is None or begun.trained.get("drawn") == drawn:
        return
    if shared := [name for name in domains if name in begun.trained.get("data", ())]:
        log.warning(
            "validation on %s flatters: the start was trained on some of its documents; give the same data, seed and "
            "sizes to hold back the same ones",
            ", ".join(shared),
        )


def _finish(
    origin: Origin, out: Path, files: dict[str, str], asked: dict[str, Any], trained: dict[str, Any],
    quality: dict[str, Any], recall: Recaller, tests: Sequence[Path], test_questions: int,
) -> AdapterRecord:  # fmt: skip
    """Measure what was written, fit its fusion and write its record and card."""
    reranker = _opened(origin, out)
    judged = {name: judge_recalled(reranker, lists) for name, lists in asked.items()}
    fusion = fitted(judged, reranker.exits, CAUTION)
    tested = {}
    for folder in tests:
        found = judge_recalled(reranker, recall_folder(folder, recall, questions=test_questions, seed=0))
        tested[folder.name] = report(found, reranker, fusion)
    record = AdapterRecord(
        base=shape_of(reranker.inner.transformers_model, origin.name), files=files, fusion=fusion,
        exits=reranker.exits, max_length=reranker.length, trained=trained,
        quality={
            **quality, "test": tested, "domain_left_out_of_the_fit": left_out(judged, reranker.exits, CAUTION),
            "validation": {name: report(each, reranker, fusion) for name, each in judged.items()},
        },
    )  # fmt: skip
    write_record(out, record, card(record))
    return record
