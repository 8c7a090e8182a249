"""Documentation strings of importable packages, one JSON line each. Run as a program by `python.py`.

Order: packages as named, then modules by depth and name, then members by name: the same on every run. A text that
occurs again (inherited, re-exported) is left out, so the shallowest public name keeps it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

STDLIB = "stdlib"
SHORTEST = 40
"""Characters: below it there is nothing to find ("Return self.")."""
# They print, open a browser or a window, are programs, or hold tables of characters.
SKIPPED = frozenset(
    {
        "antigravity",
        "this",
        "idlelib",
        "turtledemo",
        "turtle",
        "tkinter",
        "lib2to3",
        "pydoc_data",
        "ensurepip",
        "test",
        "distutils",
    }
)
SKIPPED_PARTS = frozenset({"test", "tests", "testing", "conftest", "setup", "idle_test", "encodings"})


def walk(packages: list[str]) -> Iterator[dict[str, str]]:
    """The documented things of `packages`; raises ImportError when one cannot be imported."""
    seen: set[str] = set()
    for package in packages:
        for module in _modules(package):
            for name, kind, thing in _things(module):
                text = _text(thing)
                if len(text) >= SHORTEST and text not in seen:
                    seen.add(text)
                    yield {"name": name, "kind": kind, "module": module.__name__, "text": text}


def _modules(package: str) -> Iterator[ModuleType]:
    if package != STDLIB:
        yield from _with_submodules([importlib.import_module(package)])
        return
    names = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in SKIPPED)
    yield from _with_submodules([module for name in names if (module := _import(name)) is not None])


def _with_submodules(level: list[ModuleType]) -> Iterator[ModuleType]:
    """Modules and, level by level, the public modules in them."""
    while level:
        yield from level
        below: list[ModuleType] = []
        for module in level:
            path = getattr(module, "__path__", None)
            if path is None or module.__name__.rpartition(".")[2] in SKIPPED_PARTS:
                continue
            names = sorted(info.name for info in pkgutil.iter_modules(path))
            public = [name for name in names if not name.startswith("_") and name not in SKIPPED_PARTS]
            found = [_import(f"{module.__name__}.{name}") for name in public]
            below += [submodule for submodule in found if submodule is not None]
        level = below


def _import(name: str) -> ModuleType | None:
    """The module, or None where this machine cannot import it (made for Windows, needs a missing library)."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a module may raise anything, SystemExit included
        return None


def _things(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """The module, its public functions and classes, and their public members, by name."""
    yield module.__name__, "module", module
    for name, thing in _public(module):
        if inspect.isclass(thing):
            yield f"{module.__name__}.{name}", "class", thing
            for member, value in sorted(vars(thing).items()):
                if not member.startswith("_") and _documented(value):
                    kind = "property" if isinstance(value, property) else "method"
                    yield f"{module.__name__}.{name}.{member}", kind, value
        elif callable(thing) and _documented(thing):
            yield f"{module.__name__}.{name}", "function", thing


def _public(module: ModuleType) -> list[tuple[str, Any]]:
    """What the module lists in `__all__`, or else what it defines under a public name."""
    members = vars(module)
    listed = members.get("__all__")
    if listed is not None:
        names = {name for name in listed if isinstance(name, str) and name in members}
    else:
        names = {
            name for name, value in list(members.items())
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        }  # fmt: skip
    return [(name, members[name]) for name in sorted(names) if not inspect.ismodule(members[name])]


def _documented(thing: Any) -> bool:
    """Whether the documentation is the thing's own: a plain value shows its type's."""
    return not isinstance(thing, type) and getattr(thing, "__doc__", None) is not type(thing).__doc__


def _text(thing: Any) -> str:
    text = getattr(thing, "__doc__", None)
    if not isinstance(text, str):
        return ""
    return inspect.cleandoc(text).encode("utf-8", "replace").decode()


def main() -> None:
    """Read {"packages", "path"} from stdin; nothing but JSON lines reaches stdout, whatever the modules print."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            lines = [json.dumps(row, ensure_ascii=False) for row in walk(request["packages"])]
        except ImportError as error:
            sys.exit(str(error))
        out.write("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
