"""The page: everything in one file, one policy, and in a browser what a person sees."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from urllib.parse import urljoin

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
    assert "innerHTML" not in answer.text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_pages_addresses_stay_behind_a_proxys_prefix(server: Running, path: str):
    """A proxy that serves this under /tandem/ strips that again: what a page asks for has to begin with it."""
    text = server.client.get(path).text
    addresses = re.findall(r"""(?:href=|fetch\()["']([^"']+)["']""", text)
    asked = [urljoin(f"{server.url}/tandem{path}", address) for address in addresses if not address.startswith("data:")]
    assert asked
    for address in asked:
        assert address.startswith(f"{server.url}/tandem/"), address
        status = server.client.get(address.replace("/tandem/", "/")).status_code
        assert status in (200, 405), address  # /v1/search is asked by POST


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
