"""Text to token ids with the Rust `tokenizers` library: the same at index time and at query time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from ..errors import ArtifactError, InferenceError, TandemError
from .prompting import NO_WISH, Prompting, PromptWish
from .tokens import CutSide, Ids, Template, TokenBatch, join_pairs, kept_of_pairs, pack, whole_first, wrap

LONGEST_REASON = 200
"""Characters of a message of the library: some repeat the text."""
_ON_A_TEXT = "the tokenizer failed on a text of this request"


class Tokenizer:
    """One model's tokenizer: text → ids without special tokens, and ids → what the model reads.

    `max_length` is the model's limit in tokens, special tokens included; `segments` says whether the model reads
    segment ids; `prompting` what goes around its texts (None: nothing); `side` where it cuts
    long texts; `fingerprint` (sha256 of rules and vocabulary) tells whether two models can share token ids.
    """

    def __init__(
        self, path: Path, *, max_length: int, segments: bool, prompting: Prompting | None = None,
        side: CutSide = "right",
    ) -> None:  # fmt: skip
        """Raises ArtifactError when `path` is not a readable `tokenizer.json`, or fails on the text `a`."""
        with _failing_as(ArtifactError, f"{path} is not a readable tokenizer", "; export the model again"):
            self._rust = RustTokenizer.from_buffer(path.read_bytes())
            self._rust.no_truncation()
            self._rust.no_padding()
            self._one = _template(self._rust.encode("a"))
            self._two = _template(self._rust.encode("a", "b"))
            self.prompting = prompting or Prompting(path.parent.name)
            if self.prompting.pair_text is not None:
                self._two = whole_first(self._rust.encode(self.prompting.pair_text.tail, add_special_tokens=False).ids)
        # Of the form without truncation and padding: a 128-token and a 512-token export share their token ids.
        self.fingerprint = hashlib.sha256(self._rust.to_str().encode()).hexdigest()
        self.vocab_size: int = self._rust.get_vocab_size(with_added_tokens=True)
        self.max_length = max_length
        self.segments = segments
        self.side: CutSide = side

    @property
    def special(self) -> int:
        """Special tokens of a single sequence."""
        return self._one.special

    @property
    def text_room(self) -> int:
        """Tokens of one text that fit beside the special tokens of a single sequence."""
        return self.max_length - self._one.special

    @property
    def pair_template(self) -> Template:
        """Special tokens and segment ids of a pair."""
        return self._two

    @property
    def pair_special(self) -> int:
        """Tokens that `pairs` puts around and between a query, as `query` gives it, and a passage."""
        return self._two.special

    @property
    def pair_around(self) -> int:
        """Tokens of a pair beside the words of the query and the passage: with the model's own prompt or template."""
        return self.count(self.prompting.query("")) + self._two.special

    def cuts_query(self, query: Ids, passages: TokenBatch) -> bool:
        """Whether `pairs` drops some of the query's tokens in any pair."""
        kept, _ = kept_of_pairs(len(query), passages.lengths, self._two, self.max_length)
        return bool((kept < len(query)).any())

    def encode(self, text: str) -> Ids:
        """int32 [tokens]: ids of `text` without special tokens, not truncated."""
        return self.encode_many([text]).ids

    def encode_many(self, texts: Sequence[str]) -> TokenBatch:
        """The ids of `texts` without special tokens, not truncated; uses every core.

        Raises InferenceError, as all that reads texts here does, when the library fails on one of them.
        """
        with _failing_as(InferenceError, _ON_A_TEXT):
            encodings = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
        return pack([encoding.ids for encoding in encodings])

    def query(self, text: str, wish: PromptWish = NO_WISH) -> Ids:
        """int32 [tokens]: a query as `pairs` joins it, with all that the model wants around it before a passage.

        wish: another prompt or instruction than the model's own. Raises InputError for one that it does not take.
        """
        return self.encode(self.prompting.query(text, wish))

    def passages(self, texts: Sequence[str]) -> TokenBatch:
        """The ids of `texts` as `pairs` joins them and as a collection stores them: not truncated."""
        lead = self.prompting.lead
        return self.encode_many([lead + text for text in texts] if lead else texts)

    def count(self, text: str) -> int:
        """Tokens of `text`, without special tokens."""
        with _failing_as(InferenceError, _ON_A_TEXT):
            return len(self._rust.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def encodings(self, texts: Sequence[str], *, special: bool = True) -> list[Encoding]:
        """The library's encodings of `texts`, with offsets in characters, not truncated."""
        with _failing_as(InferenceError, _ON_A_TEXT):
            return list(self._rust.encode_batch(list(texts), add_special_tokens=special))

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids, each in [0, vocab_size)."""
        with _failing_as(InferenceError, "the tokenizer failed on token ids of this request"):
            return str(self._rust.decode(list(ids), skip_special_tokens=skip_special))

    def single(self, texts: TokenBatch, side: CutSide | None = None) -> TokenBatch:
        """Sequences as the model reads them: special tokens added, cut to `max_length` on that `side` (None: where the
        model cuts)."""
        return wrap(texts, self._one, self.max_length, segments=self.segments, side=side or self.side)

    def pairs(self, query: Ids, passages: TokenBatch, side: CutSide | None = None) -> TokenBatch:
        """(query, passage) pairs as the model reads them: joined from ids (see `query` and `passages`) and cut to
        `max_length` as the reference cuts them (see `tokens.kept_of_pairs`)."""
        return join_pairs(query, passages, self._two, self.max_length, segments=self.segments, side=side or self.side)

    def pair_lengths(self, query: Ids, passages: TokenBatch) -> npt.NDArray[np.int64]:
        """int64 [n]: tokens of each of `pairs`, without joining them."""
        lengths: npt.NDArray[np.int64] = np.minimum(len(query) + passages.lengths + self.pair_special, self.max_length)
        return lengths


@contextmanager
def _failing_as(kind: type[TandemError], what: str, advice: str = "") -> Iterator[None]:
    """What the Rust library raises, as an error of ours.

    It raises bare Exceptions, and where Rust panics (a regular expression that gives up on a text, a special token
    that is not there) a PanicException, which is none: it would pass every handler and end the process.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what} ({str(error)[:LONGEST_REASON]}){advice}") from error


def _template(probe: Encoding) -> Template:
    """Read the special tokens and segment ids off an encoding of one-letter texts.

    The post-processor's JSON differs between families (BertProcessing, RobertaProcessing, TemplateProcessing, …); what
    it does to a probe does not.
    """
    parts: list[list[int]] = [[]]
    part_segments: list[list[int]] = [[]]
    text_segments: list[int] = []
    for token, segment, sequence in zip(probe.ids, probe.type_ids, probe.sequence_ids, strict=True):
        if sequence is None:
            parts[-1].append(token)
            part_segments[-1].append(segment)
        elif sequence == len(text_segments):
            text_segments.append(segment)
            parts.append([])
            part_segments.append([])
    return Template(tuple(map(tuple, parts)), tuple(map(tuple, part_segments)), tuple(text_segments))
