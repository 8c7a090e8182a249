"""What the Hub's refusals mean, from a Hub on loopback that answers with the headers of the real one."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tandem.engine.errors import ExportError
from tandem.export.source import hub
from tandem.export.source.hub import download

ANSWERS = {
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model org/gated is restricted."}),
    "missing": (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}),
    "badrev": (404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id: deadbeef"}),
    "down": (501, {}),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Refuses everything, for the reason that a repository's name says."""

    def do_GET(self) -> None:
        code, headers = next((answer for name, answer in ANSWERS.items() if name in self.path), (404, {}))
        self.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def fake_hub(monkeypatch, tmp_path) -> Iterator[None]:
    import huggingface_hub
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download",
        lambda *arguments, **settings: real(*arguments, endpoint=address, cache_dir=tmp_path, **settings),
    )  # fmt: skip
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("org/gated", None, r"org/gated is gated: ask for access on https://huggingface\.co/org/gated, then log in"),
        (
            "org/missing",
            None,
            "org/missing is no folder here and no repository of the Hugging Face Hub that you may see",
        ),
        ("org/badrev", "deadbeef", "org/badrev has no revision 'deadbeef'; leave --revision out"),
        ("org/down", None, "org/down .*Hub"),
    ],
)
def test_each_refusal_has_its_own_sentence(fake_hub, name, revision, said):
    with pytest.raises(ExportError, match=said) as caught:
        download(name, revision)
    assert "\n" not in str(caught.value)


def test_offline(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match=r"not in the Hub's cache, and the Hub cannot be reached .*HF_HUB_OFFLINE"):
        download("nobody/no-such-model", None)


@pytest.mark.parametrize("code", [False, True])
def test_what_is_fetched(monkeypatch, tmp_path, code):
    """Pickles only where there is nothing else, code only when it is trusted."""
    import huggingface_hub

    folder = tmp_path / ("0" * 40)
    (folder / "2_Dense").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    for name in ("config.json", "1_Pooling/config.json", "2_Dense/config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").touch()
    (folder / "modules.json").write_text(
        '[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}, '
        '{"path": "2_Dense", "type": "a.Dense"}]'
    )
    asked: list[list[str]] = []

    def fetch(source: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert download("org/model", None, code=code) == (folder, "0" * 40)
    assert (hub.CODE in asked[0]) == code
    assert asked[1:] == [["2_Dense/*.bin"]]
    (folder / "2_Dense" / "model.safetensors").touch()
    (folder / "model.safetensors").unlink()
    asked.clear()
    download("org/model", None)
    assert asked[1:] == [["pytorch_model*.bin"]]
