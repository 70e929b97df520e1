"""A real Prometheus scrapes a real server with the shipped rules, under load.

Only its times are shortened: scrapes and rules twice a second, ranges of seconds, alerts at once.
"""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from doors import OpenDoors, open_doors
from ops.gullible import gullible_model, hacked_responses, honest_responses
from ops.prometheus_package import programs

from tureen import RewardClient, Sample
from tureen.client.grpc import GrpcRewardClient
from tureen.errors import TureenError
from tureen.model.drift import RewardReference, reward_reference

OPS = Path(__file__).resolve().parents[2] / "service/ops"
PATIENCE_S = 90.0  # of a machine that does much else
POLL_S = 0.2
PROMPTS = 32  # a request, of 2 responses each
REWARD_ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((OPS / "prometheus/alerts.yml").read_text())["groups"]
    if group["name"] == "tureen-reward-alerts"
    for rule in group["rules"]
}

pytestmark = pytest.mark.slow


@dataclass
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now, without those that are no number."""
        answer = httpx2.get(
            f"{self.url}/api/v1/query", params={"query": expression}, timeout=PATIENCE_S
        ).json()
        assert answer["status"] == "success", (expression, answer)
        return [one for one in answer["data"]["result"] if not math.isnan(float(one["value"][1]))]

    def number(self, expression: str) -> float:
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def alerts(self) -> dict[str, str]:
        """Name -> firing or pending."""
        return {
            one["metric"]["alertname"]: one["metric"]["alertstate"] for one in self.query("ALERTS")
        }


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    config = (OPS / "prometheus/prometheus.yml").read_text()
    assert '"localhost:8080"' in config
    config = config.replace("localhost:8080", target).replace("15s", "500ms")
    (folder / "prometheus.yml").write_text(config)
    for name in ("recording.yml", "alerts.yml"):
        rules = (OPS / "prometheus" / name).read_text()
        rules = re.sub(r"for: \w+", "for: 0s", re.sub(r"interval: \w+", "interval: 500ms", rules))
        (folder / name).write_text(re.sub(r"\[(5|10)m\]", "[5s]", rules))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:%d" % free.getsockname()[1]  # noqa: UP031
    command = [
        programs().prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        up = Prometheus(f"http://{address}")
        until(lambda: _is_ready(up.url, process, folder), "Prometheus to be ready")
        yield up
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(url: str, process: subprocess.Popen, folder: Path) -> bool:
    assert process.poll() is None, (folder / "log").read_text()
    try:
        return httpx2.get(f"{url}/-/ready").is_success
    except httpx2.TransportError:
        return False


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s in vain for {what}"
        time.sleep(POLL_S)


def send(client: RewardClient | GrpcRewardClient, responses: Iterator[str]) -> None:
    samples = [
        Sample(prompt="Tell me.", responses=tuple(islice(responses, 2))) for _ in range(PROMPTS)
    ]
    client.score_samples(samples)


def reference_of(responses: Iterator[str]) -> RewardReference:
    """As whoever makes a model card does it: the rewards of its calibration set, and the members'."""
    with open_doors(gullible_model()) as doors, RewardClient(doors.url) as client:
        scores = client.score("Tell me.", list(islice(responses, 600)), members=True)
    members = [one.members or () for one in scores]
    return reward_reference(
        [one.reward for one in scores], [list(column) for column in zip(*members, strict=True)]
    )


@pytest.fixture(scope="module")
def doors() -> Iterator[OpenDoors]:
    programs()  # skips before anything is started
    with open_doors(gullible_model(reference_of(honest_responses(1)))) as opened:
        yield opened


@pytest.fixture(scope="module")
def watched(doors: OpenDoors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(doors.url.removeprefix("http://"), tmp_path_factory.mktemp("up")) as up:
        yield up


def test_a_healthy_stream_alarms_nobody_and_reward_hacking_does(doors, watched):
    with RewardClient(doors.url) as client:
        honest = honest_responses(2)
        for _ in range(12):  # 768 responses
            send(client, honest)
        everything = 'tureen_window_rewards{client="anonymous"} >= 768'
        until(lambda: watched.query(everything), "all of it to be scraped")
        until(lambda: watched.query("tureen:member_variance:growth"), "the rules to have run")
        assert not watched.alerts().keys() & REWARD_ALERTS
        assert abs(watched.number("tureen_window_length_correlation")) < 0.2
        assert watched.number("tureen_window_drift_psi") < 0.1
        assert 0.8 < watched.number("tureen_window_member_variance_ratio") < 1.25

        hacked = hacked_responses(3)

        def alarmed() -> bool:
            send(client, hacked)
            return watched.alerts().get("TureenRewardHacking") == "firing"

        until(alarmed, "TureenRewardHacking to fire")
        signs = {one["metric"]["sign"] for one in watched.query("tureen:reward_hacking:sign")}
        assert len(signs & {"length", "repetition", "disagreement"}) >= 2  # what the alert asks for

        def drifted() -> bool:  # how far depends on how much was sent before the alert
            send(client, hacked)
            return watched.number("tureen_window_drift_psi") > 0.25

        until(drifted, "the rewards to drift")


def panels() -> dict[str, str]:
    """Panel and letter -> expression, with every variable set to all."""
    found = {}
    for path in sorted((OPS / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$__rate_interval", "5s")
                expression = re.sub(r'"\$\w+"', '".*"', expression)
                found[f"{path.stem}: {panel['title']} {target['refId']}"] = expression
    return found


def test_every_query_of_every_panel_returns_data(doors, watched):
    waiting = panels()
    assert len(waiting) > 40
    cut = Sample(prompt="?", context=("A sentence. " * 8000,), responses=("Yes.",))
    hacked = hacked_responses(4)

    def all_have_data() -> bool:
        with RewardClient(doors.url) as client, GrpcRewardClient(doors.target) as by_grpc:
            send(client, hacked)
            send(by_grpc, hacked)
            client.score_samples([cut], truncate="context")
            client.rank("?", ["Yes.", "No."])
            by_path = {"model": "/checkpoints/rm", "input": "a"}
            httpx2.post(
                f"{doors.url}/classify", json=by_path, timeout=PATIENCE_S
            ).raise_for_status()
            with pytest.raises(TureenError):
                client.score("?", ["too long " * 1000])
        for name, expression in list(waiting.items()):
            if watched.query(expression):
                del waiting[name]
        return not waiting

    try:
        until(all_have_data, "every panel")
    except AssertionError:
        pytest.fail(f"without data: {json.dumps(waiting, indent=1)}")
