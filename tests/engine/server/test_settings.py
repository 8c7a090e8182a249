"""One model for flags, a TOML file and variables."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tandem.engine import InputError
from tandem.engine.config import EngineOptions

settings = pytest.importorskip(
    "tandem.engine.server.settings", reason="the [serve] extra is not installed", exc_type=ImportError
)
KEY = "k" * 32


def test_a_flag_wins_over_a_variable_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "tandem.toml"
    file.write_text(f'port = 1\nmax_documents = 2\ntimeout_ms = 3\napi_keys = ["{KEY}"]\n')
    monkeypatch.setenv("TANDEM_PORT", "4")
    monkeypatch.setenv("TANDEM_TIMEOUT_MS", "5")
    monkeypatch.setenv("TANDEM_ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("TANDEM_CORS_ALLOW_ORIGINS", "https://a.example,http://localhost:3000")
    loaded = settings.ServerSettings.load(file, port=6, host=None)
    assert (loaded.port, loaded.timeout_ms, loaded.max_documents, loaded.host) == (6, 5.0, 2, "127.0.0.1")
    assert loaded.allowed_hosts == ("a.example", "b.example")
    assert loaded.cors_allow_origins == ("https://a.example", "http://localhost:3000")
    assert loaded.bearer_keys() == (KEY.encode(),)
    assert KEY not in repr(loaded)
    assert settings.ServerSettings().port == 8080  # made directly, it reads no variable


def test_no_second_listener(monkeypatch: pytest.MonkeyPatch):
    assert settings.ServerSettings.load(admin_port="none").admin_port is None
    assert settings.ServerSettings.load(admin_port="9001").admin_port == 9001
    monkeypatch.setenv("TANDEM_ADMIN_PORT", "none")
    assert settings.ServerSettings.load().admin_port is None


def test_variables_that_set_nothing_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TANDEM_TIMOUT_MS", "5")
    monkeypatch.setenv("TANDEM_MAX_INPUTS", "7")
    links = {  # services "tandem" and "tandem-admin" of a Kubernetes cluster, as every pod beside them sees them
        "TANDEM_PORT": "tcp://10.0.0.1:8080",
        "TANDEM_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TANDEM_SERVICE_HOST": "10.0.0.1",
        "TANDEM_ADMIN_PORT": "tcp://10.0.0.2:9000",
        "TANDEM_ADMIN_PORT_9000_TCP": "tcp://10.0.0.2:9000",
        "TANDEM_ADMIN_SERVICE_PORT": "9000",
    }
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert "TANDEM_TIMOUT_MS" in settings.unknown_variables()
    assert not {"TANDEM_MAX_INPUTS", *links} & set(settings.unknown_variables())
    loaded = settings.ServerSettings.load()
    assert (loaded.port, loaded.admin_port, loaded.max_inputs) == (8080, 9000, 7)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"host": "0.0.0.0"}, "no API key"),
        ({"port": 70_000}, "port"),
        ({"ports": 1}, "did you mean port"),
        ({"api_keys": "short"}, "shorter than 16"),
        ({"api_key_file": Path("/nowhere/key")}, "cannot be read"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"admin_port": "all"}, "admin_port"),
        ({"cors_allow_origins": "*"}, "no API key is set"),
        ({"cors_allow_origins": "https://a.example, https://b.example/page"}, "b.example/page, which is no origin"),
        ({"cors_allow_origins": "a.example"}, "is no origin"),
    ],
)
def test_wrong_settings_are_one_sentence(flags: dict, message: str):
    with pytest.raises(InputError, match=message) as caught:
        settings.ServerSettings.load(**flags)
    assert "short" not in str(caught.value).replace("shorter", "")
    assert "Value error" not in str(caught.value)
    assert "settings:" not in str(caught.value)


def test_files(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n\n{KEY}2\n")
    loaded = settings.ServerSettings.load(api_key_file=keys, host="0.0.0.0")
    assert loaded.bearer_keys() == (KEY.encode(), f"{KEY}2".encode())
    keys.write_text("\n")
    with pytest.raises(InputError, match="no key"):
        settings.ServerSettings.load(api_key_file=keys)
    with pytest.raises(InputError, match="cannot be read"):
        settings.ServerSettings.load(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("port =")
    with pytest.raises(InputError, match="not TOML"):
        settings.ServerSettings.load(tmp_path / "bad.toml")


def test_answers_are_not_held_back_for_an_acknowledgement():
    async def no_delay() -> bool:
        told = asyncio.Event()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            seen.append(bool(option))
            writer.close()
            told.set()

        seen: list[bool] = []
        bound = listener.bind("127.0.0.1", 0)
        server = await asyncio.start_server(accepted, sock=bound)
        _, writer = await asyncio.open_connection(*bound.getsockname())
        await asyncio.wait_for(told.wait(), 20)
        writer.close()
        server.close()
        return seen[0]

    listener = pytest.importorskip("tandem.engine.server.listener", reason="the [serve] extra is not installed")
    assert asyncio.run(no_delay())


def test_loopback():
    assert all(map(settings.loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(settings.loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.evil.example")))


def test_none_is_a_setting_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "server.toml").write_text('threads = 4\ngpu_memory_gib = "none"\n')
    monkeypatch.setenv("TANDEM_RECALL_WEIGHT", "none")
    assert settings.ServerSettings.load(tmp_path / "server.toml").threads == 4
    loaded = settings.ServerSettings.load(tmp_path / "server.toml", {"threads": None}, port=None)
    assert (loaded.threads, loaded.gpu_memory_gib, loaded.recall_weight, loaded.port) == (None, None, None, 8080)


def test_every_setting_of_the_engine_is_one_of_the_server():
    for name, field in EngineOptions.model_fields.items():
        assert settings.ServerSettings.model_fields[name].annotation == field.annotation
        assert name in settings.ServerSettings().engine_settings()


def test_a_comment_in_the_key_file_is_no_key(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"# production frontend\n\n{'k' * 32}\n  # the next\n")
    assert settings.ServerSettings(api_key_file=path).bearer_keys() == (b"k" * 32,)
    path.write_text("# none\n")
    with pytest.raises(InputError, match="holds no key"):
        settings.ServerSettings.load(api_key_file=path)
