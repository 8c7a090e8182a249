"""Texts that come with a request: checked before anything is computed of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError


def checked(text: object, what: str, *, blank: bool = False) -> str:
    """`text` itself; raises InputError, naming it `what`, when it is no text, not encodable as UTF-8, or empty.

    blank: it may be empty
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be text, not {type(text).__name__}")
    if not blank and not text.strip():
        raise InputError(f"{what} is empty; give at least one word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid Unicode at character {error.start} ({error.reason})") from error
    return text


def checked_all(texts: Sequence[object]) -> list[str]:
    """Each of `texts`, checked; raises InputError with the place of the first bad one, from 0.

    Blank ones are right: one blank chunk among a hundred documents is no reason to score none.
    """
    if isinstance(texts, str):
        raise InputError("a list of texts is needed here, not one text")
    return [checked(text, f"text {place}", blank=True) for place, text in enumerate(texts)]
