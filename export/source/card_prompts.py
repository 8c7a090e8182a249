"""Prompts that stand in a model's card and nowhere in its files.

Facts of the models' cards on the Hugging Face Hub, by the end of a name: a copy in a folder has that name too.
"""

from __future__ import annotations

import re

from ...engine.text.prompting import Prompts

_BGE_EN = "Represent this sentence for searching relevant passages: "
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："  # noqa: RUF001 (Chinese has its own colon)
_CARDS: tuple[tuple[str, Prompts], ...] = (
    (r"multilingual-e5-(small|base|large)|e5-(small|base|large)(-v2)?", Prompts(query="query: ", passage="passage: ")),
    (r"bge-(small|base|large)-en(-v1\.5)?", Prompts(query=_BGE_EN)),
    (r"bge-(small|base|large)-zh(-v1\.5)?", Prompts(query=_BGE_ZH)),
    (r"mxbai-embed-large-v1", Prompts(query=_BGE_EN)),
    (r"UAE-Large-V1", Prompts(query=_BGE_EN)),
    (r"nomic-embed-text-v1(\.5)?", Prompts(query="search_query: ", passage="search_document: ")),
    (r"modernbert-embed-(base|large)", Prompts(query="search_query: ", passage="search_document: ")),
)


def card_prompts(name: str) -> Prompts | None:
    """The prompts of the model `name` (a Hub id or a folder's name) by its card, None where no card is known."""
    last = name.rstrip("/").rsplit("/", maxsplit=1)[-1]
    return next((prompts for pattern, prompts in _CARDS if re.fullmatch(pattern, last, re.IGNORECASE)), None)
