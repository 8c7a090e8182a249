"""One model read twice: by our tokenizer and the network that is traced, and by sentence-transformers itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from tandem.engine.text.prompting import Prompting
from tandem.engine.text.tokenizer import Tokenizer
from tandem.export.parity.samples import docstrings
from tandem.export.quiet import quiet
from tandem.export.source.library import Loaded, load
from tandem.export.source.resolve import resolve
from tandem.export.source.usage import Usage, read
from tandem.export.source.wishes import Wishes

from ...tiny import MAX_LENGTH

# One token, characters of several scripts, MiXeD case, a special token inside, and longer than any model here reads.
TEXTS = ("a", "What IS a MiXeD List?", "größe 東京 🙂 שלום", "a [SEP] b </s> c", " ".join(docstrings()[:12]))
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Taken:
    """What an export knows of a model before it traces it."""

    folder: Path
    loaded: Loaded
    usage: Usage
    lines: list[str] = field(default_factory=list)

    def tokenizer(self, scratch: Path) -> Tokenizer:
        """Ours, of the files that an artifact would hold."""
        self.loaded.tokenizer.save_pretrained(scratch)
        usage = self.usage
        prompting = Prompting("model", usage.prompts, usage.pair_text)
        return Tokenizer(
            scratch / "tokenizer.json", max_length=usage.max_length, segments=usage.segments, prompting=prompting,
            side=usage.cut_side,
        )  # fmt: skip


def take(folder: Path | str, kind: Any = "bi-encoder", *, trust: bool = False, **wishes: Any) -> Taken:
    """Resolve, load and read the model in `folder` with `wishes`."""
    lines: list[str] = []
    origin = resolve(str(folder), kind, revision=None, adapter=None, trust_remote_code=trust)
    wanted = Wishes(**wishes)
    loaded = load(origin, kind, wanted)
    return Taken(origin.folder, loaded, read(origin, loaded, wanted, lines.append), lines)


def assert_equal(taken: Taken, scratch: Path, *, asked: dict[str, Any] | None = None, **library: Any) -> None:
    """Our vectors or scores of TEXTS are the library's, one sequence at a time and in a padded batch.

    asked:   the wishes that the model was taken with, put to the library as its own arguments
    library: more arguments of its constructor
    """
    asked = asked or {}
    if taken.loaded.kind == "bi-encoder":
        prompts = taken.usage.prompts
        for prompt, expected in zip((prompts.query, prompts.passage), _theirs(taken, asked, **library), strict=True):
            _assert_close(_vectors(taken, scratch, prompt), expected)
    else:
        _assert_close(_scores(taken, scratch), _their_scores(taken, asked, **library))


def _assert_close(found: list[np.ndarray], expected: np.ndarray) -> None:
    for one in found:
        assert one.shape == expected.shape
        assert np.isfinite(one).all()
        scale = max(1.0, float(np.abs(expected).max()))
        assert np.abs(one - expected).max() <= TOLERANCE * scale


def _theirs(taken: Taken, asked: dict[str, Any], **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    with quiet():
        model = SentenceTransformer(str(taken.folder), device="cpu", local_files_only=True, **settings)
        _shorten(model, asked)
        unit = taken.usage.similarity == "cosine"
        shared = {"batch_size": 1, "normalize_embeddings": unit, "truncate_dim": asked.get("dimensions")}
        query, passage = asked.get("query_prompt"), asked.get("passage_prompt")
        return (
            model.encode_query(list(TEXTS), prompt=query, **shared),
            model.encode_document(list(TEXTS), prompt=passage, **shared),
        )


def _their_scores(taken: Taken, asked: dict[str, Any], **settings: Any) -> np.ndarray:
    with quiet():
        model = CrossEncoder(str(taken.folder), device="cpu", local_files_only=True, **settings)
        _shorten(model, asked)
        pairs, prompt = [(TEXTS[1], text) for text in TEXTS], asked.get("query_prompt")
        found = model.predict(pairs, batch_size=1, activation_fn=torch.nn.Identity(), prompt=prompt)
    return found if found.ndim == 1 else found[:, 1] - found[:, 0] if found.shape[1] == 2 else found[:, 0]


def _shorten(model: Any, asked: dict[str, Any]) -> None:
    """A length is the caller's wish; without one the library's own cuts, but for positions that do not exist."""
    if "max_length" in asked:
        model.max_seq_length = asked["max_length"]
    elif (model.max_seq_length or 0) > MAX_LENGTH:
        model.max_seq_length = MAX_LENGTH


def _vectors(taken: Taken, scratch: Path, prompt: str) -> list[np.ndarray]:
    tokenizer = taken.tokenizer(scratch)
    return _run(taken, tokenizer.single(tokenizer.encode_many([prompt + text for text in TEXTS])))


def _scores(taken: Taken, scratch: Path) -> list[np.ndarray]:
    tokenizer = taken.tokenizer(scratch)
    return _run(taken, tokenizer.pairs(tokenizer.query(TEXTS[1]), tokenizer.passages(TEXTS)))


def _run(taken: Taken, sequences: Any) -> list[np.ndarray]:
    """Alone without a mask, as on a CPU, and together with one, as on a GPU."""
    alone = [_forward(taken, sequences.select(np.array([row])), masked=False) for row in range(len(sequences))]
    return [np.concatenate(alone), _forward(taken, sequences, masked=True)]


def _forward(taken: Taken, sequences: Any, *, masked: bool) -> np.ndarray:
    batch = sequences.pad(taken.loaded.tokenizer.pad_token_id)
    inputs = {"input_ids": batch.ids}
    if masked:
        inputs["attention_mask"] = batch.mask
    if taken.usage.segments:
        inputs["token_type_ids"] = batch.segments
    with torch.inference_mode():
        found = taken.usage.network(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return np.asarray(found.numpy())
