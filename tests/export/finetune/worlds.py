"""A tiny world to train in: 30 passages of a dozen words, each with a question of three of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tandem.export.finetune.settings import FinetuneSettings

SETTINGS = FinetuneSettings(
    steps=4, rank=4, rate=3e-3, exits=(1, 2), lists=2, negatives=3, length=48, held_out=6, validations=2, processes=1,
    validation_candidates=5,
)  # fmt: skip
WORDS = (
    "return", "value", "list", "file", "name", "type", "index", "string", "module", "object", "path", "number", "error",
    "class", "call", "test",
)  # fmt: skip


def write_data(folder: Path, passages: int = 30, seed: int = 0) -> Path:
    """A BEIR folder, of which passage i is titled `Title i`."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=12)) for _ in range(passages)]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i}", "title": f"Title {i}", "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": " ".join(text.split()[:3])} for i, text in enumerate(texts)]
    for name, records in (("corpus", rows), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(passages))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder
