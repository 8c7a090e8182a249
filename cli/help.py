"""How `tandem --help` is laid out: commands in the order one needs them, each with examples."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import typer
from typer.core import TyperGroup

from .console import complain

SECTIONS = (
    ("First", ("demo", "models", "export", "index", "search")),
    ("Change and copy a collection", ("add", "delete", "merge", "snapshot")),
    ("Over HTTP", ("serve",)),
    ("How good, and what is there", ("eval", "calibrate", "verify", "info")),
    ("Further", ("retokenize", "finetune", "bench")),
)
BEGIN = """\b
Begin with:
  tandem demo              everything once, with the models that are bundled
  tandem COMMAND --help    what a command does, its options, an example"""
INTERRUPTED = 130


class Commands(TyperGroup):
    """The commands under the headings of `SECTIONS`; Ctrl-C ends each with one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the sections."""
        return [name for _, names in SECTIONS for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each section: a command, and the first sentence of its help."""
        widest = max(map(len, self.list_commands(ctx)))
        for heading, names in SECTIONS:
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(widest), self.commands[name].get_short_help_str(200)) for name in names]
                )

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None


def examples(module: ModuleType) -> str:
    """The end of a command's help: its EXAMPLES, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in module.EXAMPLES)
