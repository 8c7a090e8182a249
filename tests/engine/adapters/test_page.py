"""docs/adapters.md with every framework installed: the blocks that the page cannot run everywhere run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...pages import ROOT, Block, World, blocks
from ...test_docs import prepared
from .conftest import need

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("_their_warnings")]


def test_the_page_runs(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, other_cross_encoder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    for name in ("langchain_core", "llama_index.core", "haystack", "pyterrier", "mteb"):
        need(name)
    world = World(capsys)
    monkeypatch.chdir(prepared(tmp_path, tiny_bi_encoder, tiny_cross_encoder, other_cross_encoder))
    for block in blocks(ROOT / "docs" / "adapters.md"):
        world.run(_without_the_hub(block))


def _without_the_hub(block: Block) -> Block:
    """The block but for what downloads a data set."""
    lines = [line for line in block.text.splitlines() if "mteb.evaluate" not in line]
    return Block(block.page, block.line, block.mark, block.language, "\n".join(lines))
