"""What a decoder reads around a query and a passage: the chat template that its repository brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...engine.errors import ExportError
from ...engine.text.prompting import PairText
from .card_templates import card_template
from .library import Loaded
from .resolve import Origin
from .wishes import Wishes

_QUERY, _PASSAGE, _SYSTEM = "QUERYMARK", "PASSAGEMARK", "SYSTEMMARK"
Message = dict[str, Any]


def pair_text_of(origin: Origin, loaded: Loaded, wishes: Wishes, say: Callable[[str], None]) -> PairText | None:
    """The text around a pair; None for a model that puts special tokens around it.

    A model's default prompt is the instruction, as it is for sentence-transformers, and so is a wished query prompt.
    Without one it is what the template says itself where no instruction is given.

    Raises ExportError when the template has no place for what it has to carry.
    """
    if "message" not in loaded.transformer.modality_config:
        return None
    card = card_template(origin.name)
    if card is not None and not _takes_pair(origin, loaded):
        loaded.tokenizer.chat_template = card
        say("template of the model's card, which its files lack: system, <Instruct>, <Query>, <Document>")
    pair = [_message(loaded, "query", _QUERY), _message(loaded, "document", _PASSAGE)]
    before, middle, tail = _around(origin, _rendered(origin, loaded, pair))
    asked = _rendered(origin, loaded, [_message(loaded, "system", _SYSTEM), *pair])
    head, found, rest = asked.partition(_SYSTEM)
    neck = rest.partition(_QUERY)[0]
    takes = bool(found) and asked == f"{head}{_SYSTEM}{neck}{_QUERY}{middle}{_PASSAGE}{tail}" and _SYSTEM not in neck
    said = wishes.query_prompt
    if said is None:
        said = loaded.library.prompts.get(loaded.library.default_prompt_name or "")
    if said and not takes:
        raise ExportError(
            f"{origin.name}'s chat template has no place for an instruction (a message of the role system before the "
            f"query), so {said!r} would be lost"
        )
    if takes and (said or wishes.query_prompt is not None):
        return PairText(head=head, instruction=said or "", neck=neck, middle=middle, tail=tail)
    own = len(before) > len(head) + len(neck) and before.startswith(head) and before.endswith(neck)
    if takes and own:
        instruction = before[len(head) : len(before) - len(neck)]
        return PairText(head=head, instruction=instruction, neck=neck, middle=middle, tail=tail)
    return PairText(head=before, instruction=None, neck="", middle=middle, tail=tail)


def _takes_pair(origin: Origin, loaded: Loaded) -> bool:
    """Whether the repository's own template has places for a query and a document."""
    pair = [_message(loaded, "query", _QUERY), _message(loaded, "document", _PASSAGE)]
    try:
        _around(origin, _rendered(origin, loaded, pair))
    except ExportError:
        return False
    return True


def _around(origin: Origin, text: str) -> tuple[str, str, str]:
    """What stands before the query's mark, between the two marks, and behind the passage's."""
    places = [text.find(mark) for mark in (_QUERY, _PASSAGE)]
    if min(places) < 0 or places[0] > places[1] or text.count(_QUERY) + text.count(_PASSAGE) != 2:
        raise ExportError(
            f"{origin.name} has a chat template that does not take one query and then one document (messages of these "
            "roles), so nothing says what it reads"
        )
    before, rest = text.split(_QUERY)
    middle, tail = rest.split(_PASSAGE)
    return before, middle, tail


def _message(loaded: Loaded, role: str, content: str) -> Message:
    """As sentence-transformers writes a message: with its text alone, or as one of several parts."""
    if loaded.transformer.input_formatter.message_format == "flat":
        return {"role": role, "content": content}
    return {"role": role, "content": [{"type": "text", "text": content}]}


def _rendered(origin: Origin, loaded: Loaded, messages: list[Message]) -> str:
    settings = dict((loaded.transformer.processing_kwargs or {}).get("chat_template", {}))
    settings.pop("restore_suffix", None)  # sentence-transformers' own, about cutting
    try:
        return str(loaded.tokenizer.apply_chat_template(messages, tokenize=False, **settings))
    except Exception as error:  # templates are programs, and raise what they like
        raise ExportError(f"{origin.name}'s chat template cannot be rendered: {error}") from error
