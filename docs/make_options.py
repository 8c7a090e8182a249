"""Writes options.md, the page of every option, from the engine's own declarations: `python docs/make_options.py`."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tandem.engine.config import EngineOptions, SearchOptions

PAGE = Path(__file__).parent / "options.md"
HEAD = """# Options

Every option of a search and of an engine. This page is made of the declarations in
[engine/config.py](../engine/config.py) by `python docs/make_options.py`; a test holds that it is up to date.

**Contents:** [A search](#a-search) · [An engine](#an-engine)
"""
SEARCH = """
## A search

An argument of `engine.search` and `engine.asearch`, a field of `/v1/search`, a flag of `tandem search`
(`--budget-ms`). A flag is written `none` where the value is `None`, and filters are given with `--filter`.
"""
ENGINE = """
## An engine

An argument of `Engine.open`, a flag of `tandem search` and `tandem serve`, a line of the server's TOML file, and a
variable of the server (`TANDEM_QUEUE_TOKENS`).
"""


def page() -> str:
    """The page's text."""
    return HEAD + SEARCH + _table(SearchOptions) + ENGINE + _table(EngineOptions)


def _table(model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_kind(field)} | `{field.default}` | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    return "\n| option | takes | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _kind(field: FieldInfo) -> str:
    """What an option takes, in words."""
    parts = [part for part in get_args(field.annotation) or (field.annotation,) if part is not NoneType]
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{word}`" for word in parts)
    words = [f"`{word}`" for part in parts for word in _words(part)]
    named = {int: "a whole number", float: "a number", bool: "`True` or `False`", str: "a word"}
    limits = [f"{_SIGNS[name]} {limit}" for each in field.metadata for name, limit in _limits(each)]
    said = " or ".join(words) or named.get(parts[0], "an object") + (" " + ", ".join(limits) if limits else "")
    return said + (" or `None`" if NoneType in get_args(field.annotation) else "")


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤"}


def _limits(constraint: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(constraint, name)) for name in _SIGNS if hasattr(constraint, name)]


def _words(part: Any) -> list[str]:
    """The words of a Literal inside a union."""
    return [str(word) for word in get_args(part)] if get_origin(part) is Literal else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
