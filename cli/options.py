"""Options of the command line made of the engine's own: declared, bounded and described in `engine.config` only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Command = Callable[..., None]
ENCODER = "Where the bi-encoder is now, if it was moved."
RERANKER = "The folder of any cross-encoder, to be used instead of the collection's own."


def with_options(
    model: type[BaseModel], *, leave_out: Iterable[str] = (), panel: str | None = None
) -> Callable[[Command], Command]:
    """Give a command an option for each field of `model`; it gets those that were given, by name, as `given`.

    What was not given is left to the model, and so is whether a value is allowed. `none` is its None, and so is 0
    where the default is a limit, as of a budget. Several models
    may be stacked, each with a `panel` of the help.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in set(leave_out)}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in fields}
            chosen = {name: _read(text, fields[name]) for name, text in values.items() if text is not None}
            command(**arguments | {"given": arguments.get("given", {}) | chosen})

        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != "given"]
        made = [_parameter(name, field, panel) for name, field in fields.items()]
        run.__signature__ = own.replace(parameters=[*kept, *made])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*kept, *made]}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo, panel: str | None) -> inspect.Parameter:
    flag = name.replace("_", "-")
    option = typer.Option(
        None,
        f"--{flag}/--no-{flag}" if field.annotation is bool else f"--{flag}",
        help=_help(field),
        metavar=None if field.annotation is bool else "NUMBER" if {int, float} & set(_kinds(field)) else "WORD",
        show_default=False,
        rich_help_panel=panel,
    )
    kind = bool if field.annotation is bool else str
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    """What a field takes besides None."""
    return tuple(kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType)


def _help(field: FieldInfo) -> str:
    words = _words(field.annotation)
    allowed = f" One of {', '.join(words)}." if words else ""
    return f"{field.description}.{allowed} Default: {_shown(field.default)}."


def _words(annotation: Any) -> list[str]:
    """The words that a Literal, or a union of Literals, allows; else none."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    parts = [_words(part) for part in get_args(annotation)]
    return [word for part in parts for word in part] if parts and all(parts) else []


def _read(text: Any, field: FieldInfo) -> Any:
    """The value that a text stands for; what is none is left to the model to refuse."""
    if not isinstance(text, str):
        return text
    if NoneType in get_args(field.annotation) and (text == "none" or (text == "0" and field.default is not None)):
        return None  # 0 is no limit where the default is one
    for kind in (int, float):
        if kind in _kinds(field):
            try:
                return kind(text)
            except ValueError:
                return text
    return text


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
