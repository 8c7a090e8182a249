"""tandem finetune: labelled questions → a reranker adapter."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import typer

from .console import log_to_stderr, out

NAME = "finetune"
EXAMPLES = (
    "tandem finetune --data beir-folder --out adapter",
    "tandem finetune --data beir-folder --start minilm-l6-reranker --minutes 30 --out adapter",
)


def command(
    base: str = typer.Option("minilm-l6", "--base", help="A bundled name, or the folder of a BERT encoder."),
    data: list[Path] = typer.Option([], "--data", help="A BEIR folder to train on (plain or .gz); repeat for several."),
    output: Path = typer.Option(..., "--out", help="The adapter's folder; its sub-folder `work` keeps checkpoints."),
    pseudo: list[str] = typer.Option(["python", "cloze"], help="Pseudo-questions to add; repeat for several."),
    no_pseudo: bool = typer.Option(False, "--no-pseudo", help="Add no pseudo-questions: train on --data alone."),
    minutes: float = typer.Option(90.0, help="Time to train; mining comes before, the final measurement after."),
    seed: int = typer.Option(0, help="Seed of every draw; the same seed draws the same."),
    rank: int = typer.Option(64, help="Rank of the adapter; with --start it is that adapter's."),
    rate: float = typer.Option(3e-4, help="Peak learning rate; lower it when the log says that nothing is learnt."),
    start: str | None = typer.Option(
        None, help="Go on from this adapter: its folder, or minilm-l6-reranker (bundled)."
    ),
    judge: Path | None = typer.Option(
        None, help="An exported reranker made from the base: what it puts highest become the negatives."
    ),
    questions: int = typer.Option(9000, help="Training questions of the source with the largest share."),
    length: int = typer.Option(224, help="Tokens of a training pair."),
    margin: float = typer.Option(
        0.10, help="Passages with a cosine this far above the answer's are no negatives: likely unlabelled answers."
    ),
    share: list[str] = typer.Option(
        [], help="SOURCE=PART, the part of the training questions that a source asks; repeat for several."
    ),
    whole: list[str] = typer.Option([], help="A source to read every document of, however large; repeat for several."),
    mix: str | None = typer.Option(
        None, help="Write the mean of the trained weights and this adapter's, which the training goes back to."
    ),
    mix_share: float = typer.Option(0.5, help="Share of the trained weights in that mean."),
    refit: str | None = typer.Option(
        None, help="Train nothing: measure this adapter (a folder, or minilm-l6-reranker) and fit its weights anew."
    ),
    test: list[Path] = typer.Option([], "--test", help="A BEIR folder to measure at the end; repeat for several."),
    test_questions: int = typer.Option(300, help="Questions to ask of each test set."),
    resume: bool = typer.Option(True, help="Continue what an interrupted run with the same settings left in --out."),
) -> None:
    """Train a cross-encoder on your own judged questions; interrupt it, and the same command goes on."""
    from ..export import finetune as tuning

    log_to_stderr("%(asctime)s %(message)s")
    logging.getLogger("tandem.export.finetune").setLevel(logging.INFO)
    if refit is not None:
        if start or judge or mix:
            raise typer.BadParameter("--refit trains nothing; leave --start, --judge and --mix out")
        record = tuning.refit(base, data, output, refit, tests=test, test_questions=test_questions)
    else:
        record = tuning.finetune(
            base,
            data,
            output,
            minutes=minutes,
            seed=seed,
            rank=rank,
            rate=rate,
            pseudo=() if no_pseudo else tuple(pseudo),
            resume=resume,
            tests=test,
            test_questions=test_questions,
            start=start,
            judge=judge,
            questions=questions,
            max_length=length,
            margin=margin,
            shares=dict(map(_part, share)),
            whole=whole,
            mix=mix,
            mix_share=mix_share,
        )
    out().print(f"{output}: adapter on {record.base.name}, recall weight {record.fusion.recall_weight:.2f}")
    for name, row in record.quality["validation"].items():
        line = f"  {name:<20} nDCG@10  recall {row['recall']:.3f}  rerank {row['rerank']:.3f}  fused {row['fused']:.3f}"
        out().print(line)
    out().print(f"export it with: tandem export {base} --as cross-encoder --adapter {output} --out FOLDER")


def _part(text: str) -> tuple[str, float]:
    name, sign, part = text.rpartition("=")
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not (sign and name and 0.0 <= value < math.inf):
        raise typer.BadParameter(f"{text!r} is no share; write a source's name and a number, as squad-train=0.5")
    return name, value
