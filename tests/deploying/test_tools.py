"""docs/deploying as the tools of each place read it: Helm, the schemas of Kubernetes and Compose, hadolint, systemd.

`make charts` installs those that come from the package index; a tool that is missing skips its test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..pages import blocks
from .files import CHART, FOLDER, ROOT, template

PAGE = ROOT / "docs" / "deploying.md"
# Kubernetes' versions: the last one, and the one of three years before.
VERSIONS = ("1.37", "1.28")
GPU = {"gpus": 1, "image": {"tag": "cuda"}, "runtimeClassName": "nvidia", "resources": {"limits": None}}
OTHERS = {
    "autoscaling": {"enabled": True},
    "collection": {"claim": "passages"},
    "models": {"claim": "models"},
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"maxUnavailable": "25%"},
    "podAnnotations": {"prometheus.io/port": "9000"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
}
CASES = {"as it is": {}, "on a GPU": GPU, "with all else": OTHERS}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of the chart, as Helm makes them."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is missing: make charts")
    made = helm.Chart.load(CHART).render(values, name="release", namespace="search")
    texts = [text for name, text in made.items() if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def deployment(values: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in rendered(values) if each["kind"] == "Deployment")
    return found["spec"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_helm_finds_nothing_wrong(values: dict[str, Any]):
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is missing: make charts")
    report = helm.lint(CHART, values, strict=True)
    assert not [each for each in report["messages"] if each["severity"] > 1]
    assert not report["errors"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_each_object_is_one_that_kubernetes_takes(values: dict[str, Any], version: str):
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing: make charts")
    objects = rendered(values)
    assert len({each["kind"] for each in objects}) >= 5
    for each in objects:
        kubernetes.validate(each, version, strict=True)


def test_the_objects_of_the_page_are_ones_that_kubernetes_takes():
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing: make charts")
    written = [block for block in blocks(PAGE) if block.language == "yaml"]
    assert written
    for each in (found for block in written for found in yaml.safe_load_all(block.text)):
        kubernetes.validate(each, VERSIONS[0], strict=True)


def test_a_pod_is_as_locked_as_it_can_be():
    pod = deployment({})["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    assert writable == ["/tmp"]


def test_what_the_values_ask_for_is_in_the_deployment():
    spec = deployment(GPU | {"settings": {"TANDEM_THREADS": "3"}})
    assert spec["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert spec["replicas"] == 1
    assert "replicas" not in deployment(OTHERS)  # else each upgrade would undo what the autoscaler did
    claims = [each.get("persistentVolumeClaim") for each in deployment(OTHERS)["template"]["spec"]["volumes"]]
    assert [each["claimName"] for each in claims if each] == ["passages", "models"]


def test_other_settings_start_other_pods():
    notes = [
        deployment({"settings": {"TANDEM_THREADS": threads}})["template"]["metadata"]["annotations"][
            "checksum/settings"
        ]
        for threads in ("2", "3")
    ]
    assert notes[0] != notes[1]


def test_claims_are_made_where_none_is_named_and_stay():
    made = [each for each in rendered({}) if each["kind"] == "PersistentVolumeClaim"]
    assert [each["metadata"]["name"] for each in made] == ["release-tandem-collection", "release-tandem-models"]
    assert all(each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for each in made)
    assert not [each for each in rendered(OTHERS) if each["kind"] == "PersistentVolumeClaim"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"TANDEM_PORT": "80"}}, "TANDEM_PORT"),  # the probes and the service name the port
        ({"settings": {"TANDEM_THREADS": 2}}, "TANDEM_THREADS"),
        ({"gpu": 1}, "gpu"),
        ({"gpus": 2}, "gpus"),
        ({"collection": {"claims": "x"}}, "claims"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], said: str):
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is missing: make charts")
    chart = helm.Chart.load(CHART)
    with pytest.raises(helm.HelmError, match=said):
        chart.validate_schema(chart.merge_values(values))


def test_every_value_has_a_schema_and_is_used():
    known = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    given = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(given) == set(known) - {"global"}
    words = "".join(template(path.name) for path in (CHART / "templates").iterdir())
    for name in given:
        assert re.search(rf'\.Values\.{name}\b|list .*"{name}"', words), f"{name} sets nothing"


def test_compose_is_what_its_specification_says():
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is missing: make charts")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, FOLDER / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_of_images_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is missing: make charts")
    done = subprocess.run(
        [hadolint, "--no-color", FOLDER / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def installed_unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, which systemd looks for."""
    unit = tmp_path / "tandem.service"
    words = (FOLDER / "tandem.service").read_text(encoding="utf-8")
    unit.write_text(words.replace("/opt/tandem/bin/tandem", "/bin/true"), encoding="utf-8")
    return unit


def analysed(*arguments: str | Path) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_reads_the_unit_without_a_warning(tmp_path: Path):
    assert not analysed("verify", "--man=no", installed_unit(tmp_path))


def test_systemd_calls_the_unit_well_locked(tmp_path: Path):
    analysed("security", "--offline=true", "--threshold=20", "--no-pager", installed_unit(tmp_path))  # 2.0 of 10
