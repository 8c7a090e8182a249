"""Quality of a written adapter on test sets: what the model card reports."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertModel

from ...engine.fusion import Domain, Questions
from ...engine.tokenizer import Tokenizer
from .data import read_beir
from .encode import encode
from .exits import exit_curve
from .forward import Workers, score_pairs
from .scorer import Scorer
from .validate import Judged

log = logging.getLogger(__name__)
CANDIDATES = 100
# Behind every candidate: a relevant passage that recall did not return counts in the ideal order, but is never ranked.
UNRANKED = np.float32(-1e9)


def judge_folder(
    scorer: Scorer, base: Path, folder: Path, *, questions: int, max_length: int, seed: int, workers: Workers
) -> Judged:
    """Exact recall's 100 best for `questions` questions of the BEIR folder (drawn with `seed`), scored by every exit.

    The passage's text without its title, as served by default. Missing relevant passages follow with score -1e9.
    Raises CorpusError when the folder cannot be read.
    """
    dataset = read_beir(folder)
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=max_length, segments=True)
    chosen = np.random.default_rng(seed).permutation(len(dataset.questions))[:questions]
    asked = [dataset.questions[index] for index in sorted(chosen)]
    passages = tokenizer.encode_many([passage.text for passage in dataset.passages])
    queries = tokenizer.encode_many([question.text for question in asked])
    bi_encoder = BertModel.from_pretrained(base, local_files_only=True, dtype=torch.bfloat16).eval()
    halves = np.array_split(np.arange(len(passages)), workers.threads)
    parts = workers.map(lambda rows: encode(bi_encoder, tokenizer, passages.select(rows)), halves)
    corpus = np.concatenate(parts).astype(np.float32)
    cosines = encode(bi_encoder, tokenizer, queries).astype(np.float32) @ corpus.T
    log.info("%s: %d passages encoded", dataset.name, len(corpus))

    def one(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = np.argsort(-cosines[row], kind="stable")[:CANDIDATES]
        with torch.inference_mode():
            logits = score_pairs(scorer, tokenizer.pairs(queries[row], passages.select(found)), 0).numpy()
        relevant = np.array(asked[row].positives)
        missing = len(np.setdiff1d(relevant, found))
        gains = np.concatenate([np.isin(found, relevant), np.ones(missing)]).astype(np.float32)
        recall = np.concatenate([cosines[row][found], np.zeros(missing)]).astype(np.float32)
        recall[len(found) :] = UNRANKED
        padded = np.pad(logits, ((0, 0), (0, missing)), constant_values=UNRANKED)
        if row % 50 == 49:
            log.info("%s: %d of %d questions", dataset.name, row + 1, len(asked))
        return padded, recall, gains

    results = workers.map(one, range(len(asked)))
    return Judged([r[0] for r in results], [r[1] for r in results], [r[2] for r in results])


def report(judged: Judged, scorer: Scorer, recall_weight: float) -> dict[str, Any]:
    """accuracy@1 and nDCG@10 of recall, of the reranker alone and of both fused, and the curve of early exits."""
    domain = judged.last()
    orders: dict[str, Questions] = {
        "recall": domain.recall_scores,
        "rerank": domain.logits,
        "fused": [x + recall_weight * r for x, r in zip(domain.logits, domain.recall_scores, strict=True)],
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


def left_out(domains: dict[str, Domain]) -> dict[str, dict[str, float]]:
    """For each domain: nDCG@10 of recall alone, and fused with the weight fitted on all the other domains."""
    from ...engine.fusion import fit_over

    result = {}
    for name, domain in domains.items():
        others = [other for key, other in domains.items() if key != name]
        if others:
            weight = fit_over(others).recall_weight
            result[name] = {
                "recall": round(domain.recall_ndcg, 4),
                "fused": round(domain.ndcg(weight), 4),
                "weight": round(weight, 3),
            }
    return result
