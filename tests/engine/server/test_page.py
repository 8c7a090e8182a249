"""The page: everything in one file, one policy, and in a browser what a person sees."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from .conftest import Running


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_asks_no_other_server(server: Running, path: str):
    answer = server.client.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sha256-" in policy
    outside = re.findall(r"(?:src|href)=[\"']?(https?:|//)", answer.text)
    assert not outside
    # Behind a proxy that serves this under a path of its own, an address from the root is another application's.
    assert not re.findall(r"""(?:src|href|action)=["']?/|fetch\(["'`]/""", answer.text)
    assert "innerHTML" not in answer.text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Debian's chromium is not installed")
def test_in_a_browser_both_orders_are_shown(start: Callable[..., Running]):
    server = start(api_keys=())
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    shown = subprocess.run(
        [*command, f"{server.url}/#read%20json"], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    for column in ("recall", "final"):
        places = re.search(rf'<ol id="{column}">(.*?)</ol>', shown, re.DOTALL)
        assert places is not None
        assert places[1].count('class="hit"') == 10
    assert "candidates reranked" in shown
    assert re.search(r'<svg id="lines".*?</svg>', shown, re.DOTALL)
    assert "passages, " in shown
