"""Artifacts whose manifest says more than the exporter wrote: prompts, a decoder's template, another similarity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tandem.engine.text.prompting import PairText

TEMPLATE = PairText(
    head="judge this. task: ", instruction="find the answer", neck=" query: ", middle=" document: ", tail=" answer:"
)
"""What a decoder reads around a query and a passage."""


def with_manifest(artifact: Path, folder: Path, **fields: Any) -> Path:
    """A copy of `artifact` in `folder`, its manifest changed by `fields`; returns `folder`."""
    shutil.copytree(artifact, folder)
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder
