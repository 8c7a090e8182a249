"""tandem finetune: labelled questions → a reranker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import typer

from ..engine.errors import InputError
from ..export.finetune.settings import FinetuneSettings
from .console import log_to_stderr, out, print_json
from .options import with_options

NAME = "finetune"
EXAMPLES = (
    "tandem finetune --data beir-folder --out adapter",
    "tandem finetune --data faq --validate manuals --start minilm-l6-reranker --minutes 60 --out adapter",
)
# For those who call it from Python.
_LEFT_OUT = (
    "exits", "cosine_weight", "label_weight", "validations", "validation_questions", "validation_candidates", "steps",
    "held_out",
)  # fmt: skip


@with_options(FinetuneSettings, leave_out=_LEFT_OUT, panel="Training")
def command(
    given: dict[str, Any],
    data: list[str] = typer.Option(
        [],
        "--data",
        help="A BEIR folder to train on, python:NAME for docstrings, or man:, packages:, dict:, info:, rst: and a "
        "path; repeat for several.",
    ),
    output: Path = typer.Option(..., "--out", help="The adapter's folder; its sub-folder `work` keeps checkpoints."),
    validate: list[str] = typer.Option(
        [], help="A BEIR folder that decides which weights are kept and is never trained on; repeat for several."
    ),
    test: list[Path] = typer.Option([], "--test", help="A BEIR folder to measure at the end; repeat for several."),
    base: str = typer.Option("minilm-l6", help="A bundled name, the folder or the Hub id of an encoder or reranker."),
    start: str | None = typer.Option(
        None, help="Go on from this adapter: its folder, or minilm-l6-reranker (bundled)."
    ),
    judge: Path | None = typer.Option(
        None, help="An exported reranker: the passages that it puts highest become the negatives."
    ),
    encoder: str = typer.Option(
        "minilm-l6", help="The bi-encoder that finds candidates: a name, a folder or a Hub id."
    ),
    teacher: str | None = typer.Option(
        None, help="A stronger bi-encoder, whose order the reranker learns: a name, a folder or a Hub id."
    ),
    refit: str | None = typer.Option(
        None, help="Train nothing: measure this adapter (a folder, or minilm-l6-reranker) and fit its weights anew."
    ),
    test_questions: int = typer.Option(300, help="Questions to ask of each test set."),
    resume: bool = typer.Option(True, help="Go on with what an interrupted run with the same settings left in --out."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code", help="Run Python code that the base brings."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout: the record of what was written."),
) -> None:
    """Train a reranker on your own judged questions; interrupt it, and the same command goes on."""
    from pydantic import ValidationError

    log_to_stderr("%(asctime)s %(message)s")
    logging.getLogger("tandem.export.finetune").setLevel(logging.INFO)
    try:
        settings = FinetuneSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error
    if refit is not None and (start or judge or teacher or given):
        raise typer.BadParameter(
            "--refit trains nothing; leave --start, --judge, --teacher and the settings of a training out"
        )
    from ..export.finetune import train as tuning

    shared: dict[str, Any] = {
        "validate": validate, "tests": test, "encoder": encoder, "test_questions": test_questions,
    }  # fmt: skip
    if refit is not None:
        record = tuning.refit(base, data, output, refit, **shared)
    else:
        record = tuning.finetune(
            base, data, output, **shared, start=start, judge=judge, teacher=teacher, resume=resume,
            trust_remote_code=trust_remote_code, settings=settings,
        )  # fmt: skip
    if json_output:
        print_json(record.model_dump(mode="json"))
        return
    out().print(f"{output}: trained on {record.base.name}, weight of the evidence {record.fusion.recall_weight:.2f}")
    for name, row in record.quality["validation"].items():
        shown = "  ".join(f"{order} {row['ndcg@10'][order]:.3f}" for order in ("recall", "rerank", "fused"))
        out().print(f"  {name:<20} nDCG@10  {shown}")
    model = (
        f"{base} --as cross-encoder --adapter {output}"
        if "adapter_config.json" in record.files
        else f"{output} --as cross-encoder"
    )
    out().print(f"export it with: tandem export {model} --out FOLDER")
