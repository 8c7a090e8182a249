"""What a model wants to have before a query and a passage: by its files, by its card, or by the caller."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...engine.errors import ExportError
from ...engine.text.prompting import Prompts
from .card_prompts import card_prompts
from .library import Loaded
from .resolve import Origin
from .wishes import Wishes

PASSAGE_NAMES = ("document", "passage", "corpus")
"""The names under which encode_document looks for a passage's prompt, in its order."""
_INSTRUCTED = re.compile(r"Instruct: .*(?=\nQuery:)")


def prompts_of(origin: Origin, loaded: Loaded, wishes: Wishes, say: Callable[[str], None]) -> Prompts:
    """The prompts of a loaded model; `say` gets a line where they are not what its files alone say.

    Raises ExportError when the model's pooling leaves prompts out.
    """
    library = loaded.library
    named = {str(name): str(text) for name, text in library.prompts.items() if text}
    if loaded.kind == "cross-encoder":
        query, passage = named.get(library.default_prompt_name or "", ""), ""
    else:
        query, passage = _of_bi_encoder(origin, library.prompts, library.default_prompt_name, say)
        card = card_prompts(origin.name)
        if card is not None and not named:
            query, passage = card.query, card.passage
            say(f"prompts of the model's card, which its files lack: query {query!r}, passage {passage!r}")
    if wishes.query_prompt is not None:
        query = wishes.query_prompt
        named.pop("query", None)  # who asks for the prompt of that name wants what a search puts before queries
    if wishes.passage_prompt is not None:
        passage = wishes.passage_prompt
        for name in PASSAGE_NAMES:
            named.pop(name, None)
    _refuse_left_out(origin, loaded)
    instructed = _INSTRUCTED.sub("Instruct: {instruction}", query) if _INSTRUCTED.search(query) else None
    return Prompts(query=query, passage=passage, named=named, instructed=instructed)


def _of_bi_encoder(
    origin: Origin, prompts: dict[str, str], default: str | None, say: Callable[[str], None]
) -> tuple[str, str]:
    """As encode_query and encode_document choose them, where a text under the first name wins, an empty one too."""
    fallback = prompts.get(default or "", "")
    query = prompts.get("query", fallback)
    passage = next((prompts[name] for name in PASSAGE_NAMES if name in prompts), fallback)
    unused = [name for name in (*PASSAGE_NAMES, default) if name and prompts.get(name) and not passage]
    if unused:
        say(
            f"the prompt {unused[0]!r} of {origin.name} is not put before passages, since sentence-transformers' "
            f"encode_document does not do it either; where it is wanted: --passage-prompt {prompts[unused[0]]!r}"
        )
    if default and fallback and not query:
        say(
            f"the default prompt {default!r} of {origin.name} is not put before queries, since sentence-transformers' "
            f"encode_query does not do it either; where it is wanted: --query-prompt {fallback!r}"
        )
    return query, passage


def _refuse_left_out(origin: Origin, loaded: Loaded) -> None:
    """A request may bring a prompt, and the pooling in the graph takes all tokens."""
    pooling: Any = next((module for module in loaded.rest if type(module).__name__ == "Pooling"), None)
    if pooling is not None and not pooling.include_prompt:
        raise ExportError(
            f"{origin.name} leaves its prompt out of the pooling (include_prompt: false in the Pooling's config.json), "
            "which is not supported"
        )
