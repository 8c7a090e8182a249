"""What counts as a word of a text: told by the language that a collection is indexed for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import tantivy

Stemmed = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian", "norwegian",
    "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip
"""The languages that tantivy has a stemmer of: it takes endings off, so that "resets" is found by "resetting"."""
Language = Literal[Stemmed, "other"]
"""`other`: any other language, and several at once. Then the token ids of the reranker are the words: its tokenizer
knows where to cut Chinese, for which there are no blanks to go by."""
LANGUAGES: tuple[Language, ...] = get_args(Language)
WITHOUT_STOP_WORDS = frozenset({"arabic", "greek", "romanian", "tamil", "turkish"})
"""Languages whose words are all indexed: of the others tantivy knows those that are in every text ("the", "of")."""
LONGEST_WORD = 40
"""Bytes of UTF-8; longer runs are checksums and encoded files, and are passed over, as in tantivy's own default."""


def analyser(language: Language) -> tantivy.TextAnalyzer:
    """Cuts a text into the words that are indexed and looked up; of `other` a text as `of_ids` makes it."""
    if language == "other":
        return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    simple = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    words = simple.filter(tantivy.Filter.remove_long(LONGEST_WORD)).filter(tantivy.Filter.lowercase())
    if language not in WITHOUT_STOP_WORDS:
        words = words.filter(tantivy.Filter.stopword(language))
    return words.filter(tantivy.Filter.stemmer(language)).build()


def of_ids(ids: Iterable[int]) -> str:
    """Token ids as the text whose words they are."""
    return " ".join(map(str, ids))
