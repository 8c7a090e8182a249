"""The image for CPUs, built from its Containerfile and run locked: `pytest -m slow tests/deploying/test_image.py`.

Wants Podman and a base image with Python. Three variables say what differs between machines:

    BASE_IMAGE    in place of the Containerfile's own base
    BUILD_OPTIONS of `podman build`, such as --isolation=chroot or a --volume with pip's settings
    RUN_OPTIONS   of `podman run`
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..pages import free_port
from .files import FOLDER, ROOT, compose

pytestmark = pytest.mark.slow
KEY = "0123456789abcdef0123456789abcdef"
NAME = f"tandem-test-{os.getpid()}"
SERVICE = compose()["services"]["tandem"]


def podman(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if shutil.which("podman") is None:
        pytest.skip("podman is missing")
    base = os.environ.get("BASE_IMAGE")
    options = [*shlex.split(os.environ.get("BUILD_OPTIONS", "")), *(["--build-arg", f"BASE={base}"] if base else [])]
    where = ["--file", FOLDER / "Containerfile", "--target", "cpu", "--tag", NAME]
    podman("build", "--format=docker", *options, *where, ROOT)  # only Docker's format keeps the HEALTHCHECK
    yield NAME
    podman("rmi", "--force", NAME)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    """A folder as compose.yaml wants it."""
    from tandem.engine.build.indexing import index_corpus

    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o755)  # pytest makes it for one user alone
    encoder = shutil.copytree(tiny_bi_encoder, folder / "models" / "encoder")
    reranker = shutil.copytree(tiny_cross_encoder, folder / "models" / "reranker")
    corpus = folder / "corpus.jsonl"
    corpus.write_text('{"_id": "keys", "text": "An API key is reset under security."}\n', encoding="utf-8")
    index_corpus(str(corpus), folder / "collection", encoder=encoder, reranker=reranker, threads=1)
    (folder / "key").write_text(KEY, encoding="utf-8")
    return folder


@dataclass
class Container:
    """A container of the image, as compose.yaml runs it."""

    process: subprocess.Popen[bytes]
    port: str
    log: Path

    def status(self, path: str, body: Any = None, key: str | None = KEY) -> int:
        return self.asked(path, body, key)[0]

    def asked(self, path: str, body: Any = None, key: str | None = KEY) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        asking = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(asking, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)
        except OSError:
            return 0, None

    def wait(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-3000:]
            if self.status("/readyz", key=None) == 200:
                return
            time.sleep(0.2)
        pytest.fail("the container was not ready in two minutes")


@pytest.fixture
def container(image: str, data: Path, tmp_path: Path) -> Iterator[Container]:
    port = free_port()
    settings = SERVICE["environment"] | {"TANDEM_PORT": port, "TANDEM_ADMIN_PORT": free_port()}
    mounts = [f"--volume={data / name}:{where}:ro" for name, where in (
        ("collection", "/data/collection"), ("models", "/data/models"), ("key", "/run/secrets/key"),
    )]  # fmt: skip
    locked = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    command = [
        "podman", "run", "--rm", "--name", NAME, "--network=host", *locked, f"--tmpfs={SERVICE['tmpfs'][0]}", *mounts,
        *(f"--env={name}={value}" for name, value in settings.items()),
        *shlex.split(os.environ.get("RUN_OPTIONS", "")), image,
    ]  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = Container(subprocess.Popen(command, stdout=file, stderr=file), port, log)
    yield running
    with contextlib.suppress(AssertionError):
        podman("kill", NAME)
    running.process.wait(30)


def test_it_answers_with_nothing_to_write_to(container: Container):
    container.wait()
    status, found = container.asked("/v1/search", {"query": "how is a key reset"})
    assert status == 200
    assert [hit["document"] for hit in found["hits"]] == ["keys"]
    assert container.status("/v1/search", {"query": "key"}, key=None) == 401
    assert container.status("/v1/documents", {"documents": [{"id": "a", "text": "b"}]}) == 403  # read_only
    first = podman("inspect", "--format={{.State.Pid}}", NAME).stdout.strip()
    state = dict(line.split(":\t", 1) for line in Path(f"/proc/{first}/status").read_text().splitlines())
    assert set(state["CapEff"] + state["CapBnd"]) == {"0"}
    assert state["NoNewPrivs"] == "1"


def test_its_user_is_nobody_of_the_machine(image: str):
    assert podman("image", "inspect", "--format={{.User}}", image).stdout.strip() == "10001:10001"


def test_it_moves_to_a_version_that_is_written_from_outside(container: Container, data: Path):
    from tandem.engine import Document, Engine

    container.wait()
    with Engine.open(data / "collection") as engine:
        engine.add([Document("backups", "", "Nightly backups are kept for thirty days.")])
    for _ in range(150):
        found = container.asked("/v1/search", {"query": "how long are backups kept"})[1]
        if "backups" in [hit["document"] for hit in found["hits"]]:
            return
        time.sleep(0.2)
    pytest.fail("the new version was not served within half a minute")


def test_its_health_check_says_when_it_is_ready(container: Container):
    container.wait()
    assert podman("healthcheck", "run", NAME).returncode == 0


def test_it_ends_as_it_is_told_and_answers_meanwhile(container: Container):
    container.wait()
    podman("kill", "--signal=TERM", NAME)
    time.sleep(1)
    assert container.status("/readyz", key=None) == 503
    assert container.status("/v1/search", {"query": "key"}) == 200
    assert container.process.wait(int(SERVICE["stop_grace_period"].removesuffix("s"))) == 0


def test_without_a_key_it_says_what_to_do(image: str, data: Path):
    options = shlex.split(os.environ.get("RUN_OPTIONS", ""))
    done = podman("run", "--rm", "--read-only", "--network=none", *options, image, check=False)
    assert done.returncode == 2
    assert "no API key is set; give --api-key-file" in done.stderr
