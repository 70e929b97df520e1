"""What is shipped for deployment, checked without an engine: schemas, and the names it relies on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from debian_package import unpacked
from ops.prometheus_package import programs

from tureen.config import PREFIX, Config
from tureen.engine.metric_table import CATALOGUE
from tureen.model.directory import MODELS_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "service/deploy"
KUBERNETES = DEPLOY / "kubernetes"
OLDEST, NEWEST = "1.29", "1.34"
UID = 10001
SETTINGS = {MODELS_VARIABLE, *(PREFIX + name.upper() for name in Config.model_fields)}
DOCKERFILE = (ROOT / "Dockerfile").read_text()

# As a container runs it: nothing can be written but /tmp, and nobody has a capability.
READ_ONLY = """
mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -o remount,ro,bind / || exit 77
exec setpriv --bounding-set=-all --no-new-privs env HOME=/tmp "$@"
"""
SERVE = """
import sys; sys.path.insert(0, "tests")
import httpx2
from server_process import serving
with serving("stub") as server:
    print(httpx2.get(server.url + "/readyz").text, httpx2.get(server.url).status_code)
"""


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def manifests() -> list[dict[str, Any]]:
    files = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*files, "kustomization.yaml"} == {path.name for path in KUBERNETES.iterdir()}
    return [one for name in files for one in yaml.safe_load_all((KUBERNETES / name).read_text())]


def manifest(kind: str) -> dict[str, Any]:
    [found] = [one for one in manifests() if one["kind"] == kind]
    return found["spec"]


def container() -> dict[str, Any]:
    [found] = manifest("Deployment")["template"]["spec"]["containers"]
    return found


def test_compose_is_accepted_by_the_schema_of_compose():
    [schema] = unpacked("docker-compose").rglob("compose_spec.json")
    asked = compose()
    del asked["name"]  # of later editions than Debian's
    jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(asked)


def test_what_compose_mounts_exists():
    named = compose()
    keys = {path.name for path in (DEPLOY / one["file"] for one in named["secrets"].values())}
    assert keys == set(
        (DEPLOY / ".gitignore").read_text().split()
    )  # secrets are nobody's to commit
    for name, service in named["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in named["volumes"] or (DEPLOY / source).exists(), source
    assert set(named["services"]["tureen"]["environment"]) <= SETTINGS
    assert named["services"]["tureen"]["build"]["target"] in re.findall(r" AS (\w+)", DOCKERFILE)


def test_grafana_finds_prometheus_and_the_dashboards():
    services = compose()["services"]
    [source] = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "127.0.0.1:9090:9090" in services["prometheus"]["ports"]
    [provider] = yaml.safe_load((DEPLOY / "grafana/dashboards.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"../ops/grafana:{folder}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "service/ops/grafana" / Path(home).relative_to(folder)).is_file()


def test_promtool_accepts_the_configuration_beside_the_shipped_rules(tmp_path: Path):
    for source in (DEPLOY / "prometheus/prometheus.yml", *(ROOT / "service/ops").rglob("*s.yml")):
        shutil.copy(source, tmp_path / source.name)
    shutil.copy(ROOT / "service/ops/prometheus/recording.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus/prometheus.yml", tmp_path)
    command = [programs().promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("rules found") == 2


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_accepts_the_manifests(version: str):
    kinds = [one["kind"] for one in manifests()]
    assert {"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"} < set(kinds)
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_pods_are_found_by_what_refers_to_them():
    pod = manifest("Deployment")["template"]["metadata"]["labels"]
    assert manifest("Deployment")["selector"]["matchLabels"] == pod
    assert manifest("PodDisruptionBudget")["selector"]["matchLabels"] == pod
    assert manifest("NetworkPolicy")["podSelector"]["matchLabels"] == pod
    ports = {one["name"] for one in container()["ports"]}
    services = [one["spec"] for one in manifests() if one["kind"] == "Service"]
    assert {port["targetPort"] for one in services for port in one["ports"]} == ports
    assert all(one["selector"] == pod for one in services)
    target = manifest("HorizontalPodAutoscaler")["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "tureen")
    assert "replicas" not in manifest("Deployment")


def test_pods_run_without_rights():
    pod, one = manifest("Deployment")["template"]["spec"], container()
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == UID
    assert not pod["automountServiceAccountToken"]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert mounted["tmp"] == "/tmp"
    environment = {variable["name"]: variable["value"] for variable in one["env"]}
    assert {name for name in environment if name.startswith(PREFIX)} <= SETTINGS
    assert environment["TUREEN_API_KEY_FILE"].startswith(mounted["keys"] + "/")


def test_probes_ask_what_they_mean_and_leaving_has_the_time_it_takes():
    one = container()
    assert one["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"
    startup = one["startupProbe"]
    assert startup["httpGet"]["path"] == "/readyz"
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300
    drain_s = Config.model_fields["drain_s"].default
    pause_s = 5  # preStop
    assert f"sleep({pause_s})" in one["lifecycle"]["preStop"]["exec"]["command"][-1]
    grace_s = manifest("Deployment")["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > drain_s + pause_s
    assert int(compose()["services"]["tureen"]["stop_grace_period"].removesuffix("s")) > drain_s


def test_the_autoscaler_follows_a_metric_that_exists():
    [metric] = manifest("HorizontalPodAutoscaler")["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in {one.name for one in CATALOGUE}
    [rule] = yaml.safe_load((DEPLOY / "prometheus/adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(name + "{")


def test_every_image_target_runs_without_root_and_knows_its_health():
    targets = DOCKERFILE.split("\nFROM ")
    finals = [one for one in targets if one.startswith("runtime AS")]
    assert [re.findall(r" AS (\w+)", one)[0] for one in finals] == ["cpu", "cuda"]
    for one in finals:
        assert re.findall(r"^USER (.*)", one, re.MULTILINE) == [f"{UID}:{UID}"]
    assert "/readyz" in re.findall(r"HEALTHCHECK.*\\\n(.*)", DOCKERFILE)[0]
    assert not re.findall(r"^ADD |^[^#]*(?:KEY=|PASSWORD)", DOCKERFILE, re.MULTILINE)
    named = re.findall(r"\b(TUREEN_\w+)=", DOCKERFILE)
    assert set(named) <= SETTINGS


def test_hadolint_has_no_complaint():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    command = [str(hadolint), "--no-color", str(ROOT / "Dockerfile")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_what_the_image_is_made_of_exists():
    """Sources that are copied, and are not kept from the engine; extras that are installed."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert {"pyproject.toml", "service", "training", "constraints.txt"} <= sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source not in ignored, source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.findall(r"\.whl\)\[([\w,-]+)\]", DOCKERFILE)
    assert len(wanted) == 2
    for extras in wanted:
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert {project["readme"], *project["license-files"]} <= sources  # the wheel carries them
    [model] = re.findall(r'^CMD \["serve", "([\w-]+)"\]', DOCKERFILE, re.MULTILINE)
    assert "COPY service/models /models" in DOCKERFILE
    assert (ROOT / "service/models" / model / "tureen.json").is_file()


@pytest.mark.slow
def test_the_server_needs_no_file_system_to_write_to():
    """The same restrictions by hand: a read-only root, an empty /tmp, no capabilities."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("only root of a Linux can make its root file system read-only")
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("the checkout lies under /tmp, which the image finds empty")
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", sys.executable, "-c", SERVE]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if said.returncode in (1, 77) and re.search("unshare|mount|setpriv", said.stderr):
        pytest.skip(f"this machine does not allow it: {said.stderr.strip()}")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == '{"status":"ready"} 200'
