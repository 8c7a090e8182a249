"""Quality of a written adapter on test sets: what the model card reports."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertModel

from ...engine.scoring.fit import Domain, Questions
from ...engine.scoring.fusion import Fusion
from ...engine.scoring.lexical import Lexicon
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import TokenBatch
from .data import read_beir
from .encode import encode
from .exits import exit_curve
from .forward import Workers, score_pairs
from .negatives import with_titles
from .precision import compute_dtype
from .scorer import Scorer
from .validate import Floats, JudgedQuestions

log = logging.getLogger(__name__)
CANDIDATES = 100
# Behind every candidate: a relevant passage that recall did not return counts in the ideal order, but is never ranked.
UNRANKED = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class RecalledQuestions:
    """A test set after recall: `q` questions and each one's best candidates, ready to be scored.

    questions, passages: ids without special tokens; candidates: int64 [q, CANDIDATES] rows of passages;
    cosines, evidence: float32 [q, CANDIDATES], cosines falling; positives: each question's relevant rows
    """

    questions: TokenBatch
    passages: TokenBatch
    candidates: npt.NDArray[np.int64]
    cosines: npt.NDArray[np.float32]
    evidence: npt.NDArray[np.float32]
    positives: list[tuple[int, ...]]


def recall_folder(base: Path, folder: Path, *, questions: int, seed: int, workers: Workers) -> RecalledQuestions:
    """Exact recall over the whole BEIR folder for `questions` of its questions, drawn with `seed`.

    The passage's title and text, as an index gives them to both models. Raises CorpusError when the folder cannot be
    read.
    """
    dataset = read_beir(folder)
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=_recall_length(base), segments=True)
    chosen = np.random.default_rng(seed).permutation(len(dataset.questions))[:questions]
    asked = [dataset.questions[index] for index in sorted(chosen)]
    titles = tokenizer.encode_many([passage.title for passage in dataset.passages])
    passages = with_titles(titles, tokenizer.encode_many([passage.text for passage in dataset.passages]))
    queries = tokenizer.encode_many([question.text for question in asked])
    bi_encoder = BertModel.from_pretrained(base, local_files_only=True, dtype=compute_dtype()).eval()
    shares = np.array_split(np.arange(len(passages)), workers.threads)
    parts = workers.map(lambda rows: encode(bi_encoder, tokenizer, passages.select(rows)), shares)
    cosines = encode(bi_encoder, tokenizer, queries).astype(np.float32) @ np.concatenate(parts).astype(np.float32).T
    found = np.argsort(-cosines, axis=1, kind="stable")[:, :CANDIDATES]
    log.info("%s: recalled from %d passages", dataset.name, len(passages))
    cosines = np.take_along_axis(cosines, found, axis=1)
    lexicon = Lexicon.of(passages, tokenizer.vocab_size)
    lexical = [lexicon.scores(queries[row], passages.select(rows)) for row, rows in enumerate(found)]
    evidence = Fusion().evidence(cosines, np.stack(lexical))
    return RecalledQuestions(queries, passages, found, cosines, evidence, [question.positives for question in asked])


def judge_recalled(
    scorer: Scorer, base: Path, recalled: RecalledQuestions, *, max_length: int, pad_id: int, workers: Workers
) -> JudgedQuestions:
    """Every candidate scored by every exit. Relevant passages that recall missed follow with score -1e9."""
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=max_length, segments=True)

    def one(row: int) -> tuple[Floats, Floats, Floats, Floats]:
        found = recalled.candidates[row]
        pairs = tokenizer.pairs(recalled.questions[row], recalled.passages.select(found))
        with torch.inference_mode():
            logits = score_pairs(scorer, pairs, pad_id).numpy()
        relevant = np.array(recalled.positives[row])
        missed = len(np.setdiff1d(relevant, found))
        if row % 50 == 49:
            log.info("%d of %d questions", row + 1, len(recalled.positives))
        return (
            np.pad(logits, ((0, 0), (0, missed)), constant_values=UNRANKED),
            np.pad(recalled.cosines[row], (0, missed), constant_values=UNRANKED),
            np.pad(recalled.evidence[row], (0, missed), constant_values=UNRANKED),
            np.pad(np.isin(found, relevant).astype(np.float32), (0, missed), constant_values=1.0),
        )

    results = workers.map(one, range(len(recalled.positives)))
    return JudgedQuestions(*(list(column) for column in zip(*results, strict=True)))


def _recall_length(base: Path) -> int:
    """Tokens of a passage that the bi-encoder is served with: what sentence-transformers wrote down, else 512."""
    path = base / "sentence_bert_config.json"
    return int(json.loads(path.read_text()).get("max_seq_length") or 512) if path.is_file() else 512


def report(judged: JudgedQuestions, scorer: Scorer, recall_weight: float) -> dict[str, Any]:
    """accuracy@1 and nDCG@10 of recall, of the reranker alone and of both fused, and the curve of early exits."""
    domain = judged.last()
    orders: dict[str, Questions] = {
        "recall": domain.recall_scores,
        "rerank": domain.logits,
        "fused": domain.fused(recall_weight),
    }
    layers = [judged.at(layer) for layer in range(len(scorer.exits) + 1)]
    return {
        "questions": len(judged.gains),
        "accuracy@1": {name: round(accuracy(scores, domain.gains), 4) for name, scores in orders.items()},
        "ndcg@10": {
            "recall": round(domain.recall_ndcg, 4),
            "rerank": round(domain.ndcg(0.0), 4),
            "fused": round(domain.ndcg(recall_weight), 4),
        },
        "exits_alone": {
            str(layer): round(each.ndcg(recall_weight), 4)
            for layer, each in zip((*scorer.exits, scorer.layers), layers, strict=True)
        },
        "exit_curve": [asdict(point) for point in exit_curve(layers, scorer.exits, scorer.layers, recall_weight)],
    }


def accuracy(scores: Questions, gains: Questions) -> float:
    """accuracy@1: the share of questions whose best candidate is relevant."""
    return float(np.mean([gain[int(np.argmax(score))] > 0 for score, gain in zip(scores, gains, strict=True)]))


def left_out(domains: dict[str, Domain], caution: float) -> dict[str, dict[str, float]]:
    """For each domain: nDCG@10 of recall alone, and fused with the weight fitted on all the other domains."""
    from ...engine.scoring.fit import fit_over

    result = {}
    for name, domain in domains.items():
        others = [other for key, other in domains.items() if key != name]
        if others:
            weight = fit_over(others, caution=caution).recall_weight
            result[name] = {
                "recall": round(domain.recall_ndcg, 4),
                "fused": round(domain.ndcg(weight), 4),
                "weight": round(weight, 3),
            }
    return result
