"""What docs/deploying names of the server is there, and what two of its files must agree on is the same in both."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import Any

import pytest

from tandem.engine.server.auth import PROBES
from tandem.engine.server.listener import BACKSTOP_SECONDS
from tandem.engine.server.routes import probes
from tandem.engine.server.settings import ServerSettings

from ..pages import parsed
from .files import CHART, ROOT, compose, containerfile, everything, only, template, unit, values

SETTINGS = {f"TANDEM_{name}".upper(): field for name, field in ServerSettings.model_fields.items()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEFAULTS = ServerSettings()
# After a signal: requests are still taken, then they end, then the listeners and the worker do.
DRAIN_SECONDS = (DEFAULTS.drain_delay_ms + DEFAULTS.drain_timeout_ms) / 1e3 + BACKSTOP_SECONDS
SERVICES = compose()["services"]


def image_environment() -> dict[str, str]:
    return {name: value for each in containerfile() if each.word == "ENV" for name, value in each.pairs.items()}


@pytest.mark.parametrize("name", everything())
def test_every_variable_is_a_setting(name: str):
    named = set(re.findall(r"\bTANDEM_[A-Z][A-Z_]*[A-Z]\b", everything()[name])) - {"TANDEM_NAME"}
    assert not named - set(SETTINGS), f"{name}: no such settings"


@pytest.mark.parametrize(
    "given",
    [image_environment(), *(each["environment"] for each in SERVICES.values()), values()["settings"]],
    ids=["image", *SERVICES, "chart"],
)
def test_the_values_are_ones_that_the_server_takes(given: dict[str, Any]):
    told = {name.removeprefix("TANDEM_").lower(): given[name] for name in given if name in SETTINGS}
    told.pop("api_key_file", None)  # it is where the image runs
    ServerSettings(**told | {"api_keys": "0123456789abcdef"})


@pytest.mark.parametrize("name", everything())
def test_every_probed_path_is_a_route_that_needs_no_key(name: str):
    asked = set(re.findall(r"path: (/\w+), port", everything()[name])) | set(
        re.findall(r"'(/\w+)'", everything()[name])
    )
    known = {route.path for route in probes.router.routes}
    assert asked <= known & PROBES


def test_each_place_has_a_probe():
    assert "/readyz" in only("HEALTHCHECK").rest
    assert {"/livez", "/readyz"} == set(re.findall(r"path: (/\w+), port", template("deployment.yaml")))
    for service in SERVICES.values():
        assert service["healthcheck"]["test"] == ["CMD", *only("HEALTHCHECK").array]


def test_ports_are_those_that_the_server_listens_on():
    ports = {str(DEFAULTS.port), str(DEFAULTS.admin_port)}
    assert set(only("EXPOSE").rest.split()) == ports
    for service in SERVICES.values():
        assert {each.rpartition(":")[2] for each in service["ports"]} == ports
    assert set(re.findall(r"containerPort: (\d+)", template("deployment.yaml"))) == ports
    assert dict(re.findall(r'name: (TANDEM_\w*PORT), value: "(\d+)"', template("deployment.yaml"))) == {
        "TANDEM_PORT": str(DEFAULTS.port), "TANDEM_ADMIN_PORT": str(DEFAULTS.admin_port),
    }  # fmt: skip


def test_nobody_kills_the_server_while_it_drains():
    graces = [
        *(int(service["stop_grace_period"].removesuffix("s")) for service in SERVICES.values()),
        values()["terminationGracePeriodSeconds"],
        int(unit()["TimeoutStopSec"]),
    ]
    assert min(graces) > DRAIN_SECONDS
    # The values change neither half of it.
    assert not [name for text in everything().values() for name in re.findall(r"TANDEM_DRAIN_\w+", text)]


def test_nobody_kills_the_server_while_it_opens():
    opening = DEFAULTS.open_timeout_ms / 1e3
    assert values()["startupSeconds"] >= opening
    (told,) = re.findall(r"--start-period=(\d+)s", only("HEALTHCHECK").rest)
    assert int(told) >= opening
    for service in SERVICES.values():
        assert int(service["healthcheck"]["start_period"].removesuffix("s")) >= opening


def test_the_commands_exist():
    command = [*only("ENTRYPOINT").array, *only("CMD").array]
    assert command == ["tandem", "serve", *values()["args"]]
    parsed(shlex.join(command))
    parsed(unit()["ExecStart"])


def test_the_image_has_the_whole_tree_and_extras_that_exist():
    copied = {each.rest.split()[0] for each in containerfile() if each.word == "COPY" and not each.rest.startswith("-")}
    folders = set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    assert folders <= copied
    installed = [each.rest for each in containerfile() if each.word == "RUN" and "pip install" in each.rest]
    assert ["cpu,serve" in each for each in installed] == [True, False]
    assert ["gpu,serve" in each for each in installed] == [False, True]
    for command in installed:
        parsed(command)
        assert "--only-binary=:all: --constraint constraints.txt" in command


def test_versions_and_the_user_are_the_same_everywhere():
    import yaml

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = PROJECT["project"]["version"]
    labels = only("LABEL").pairs
    assert {chart["version"], chart["appVersion"], labels["org.opencontainers.image.version"]} == {version}
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]
    users = {each.rest for each in containerfile() if each.word == "USER"}
    (user,) = users
    told = dict(re.findall(r"(runAsUser|runAsGroup|fsGroup): (\d+)", template("deployment.yaml")))
    assert set(told.values()) == set(user.split(":"))
    assert "0" not in told.values()


def test_what_is_run_is_not_root():
    users: dict[str, str] = {}
    stage = ""
    for each in containerfile():
        if each.word == "FROM":
            base, _, stage = each.rest.partition(" AS ")
            users[stage] = users.get(base, "root")
        elif each.word == "USER":
            users[stage] = each.rest
    last = ""  # it has no name
    assert users["cpu"] == users["cuda"] == users[last] != "root"


def test_nothing_is_written_but_what_is_mounted_for_it():
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert all(volume["read_only"] for volume in service["volumes"])
        assert [entry.partition(":")[0] for entry in service["tmpfs"]] == ["/tmp"]
    home = image_environment()
    assert home["HOME"] == "/tmp"
    assert all(home[name].startswith("/tmp/") for name in ("TRITON_CACHE_DIR", "CUDA_CACHE_PATH"))
    assert "exec" in SERVICES["tandem-gpu"]["tmpfs"][0].partition(":")[2].split(",")  # Triton loads libraries from it


def test_compose_mounts_what_the_image_declares():
    declared = set(only("VOLUME").array)
    for service in SERVICES.values():
        assert {volume["target"] for volume in service["volumes"]} == declared
    mounted = re.findall(r"mountPath: (/data/\w+)", template("deployment.yaml"))
    assert set(mounted) == declared
