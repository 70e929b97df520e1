"""What happens to the process and the machine around it: killed and started anew, a full disk, a clock that jumps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from doors import open_doors
from engine_fakes import wait_until
from fault_watch import WELL, health
from server_process import serving

from tureen import Sample
from tureen.client import GrpcRewardClient, Retry, RewardClient

SAMPLES = [Sample(id=str(i), prompt=f"Who {i}?", responses=(f"He {i}.", "No.")) for i in range(8)]


def test_killed_and_started_anew_clients_get_every_reward_once_and_the_same():
    """kill -9 under load; the clients' own retries carry them over to the next process."""
    patient = Retry(max_retries=1000, max_backoff_s=0.2)
    done = threading.Event()
    rewards: dict[str, list[list[float]]] = {"http": [], "grpc": []}
    failures: list[BaseException] = []

    def ask(name: str, kind: type, at: str) -> None:
        try:
            with kind(at, retry=patient, timeout_s=90) as client:
                while not done.is_set():
                    results = client.score_samples(SAMPLES).results
                    rewards[name].append([s.reward for r in results for s in r.scores or ()])
        except BaseException as error:
            failures.append(error)

    with serving("stub", "--cache-bytes", "0") as first:
        ports = ("--http-port", str(first.http_port), "--grpc-port", str(first.grpc_port))
        asking = [
            threading.Thread(target=ask, args=("http", RewardClient, first.url)),
            threading.Thread(target=ask, args=("grpc", GrpcRewardClient, first.target)),
        ]
        for thread in asking:
            thread.start()
        wait_until(lambda: all(rewards.values()), "both to be served")
        first.process.kill()
        first.process.wait(20)
        before = {name: len(found) for name, found in rewards.items()}
        with RewardClient(first.url, timeout_s=2) as other:
            assert not other.ready()
    with serving("stub", "--cache-bytes", "0", *ports) as second:
        try:
            wait_until(
                lambda: all(len(found) > before[name] + 1 for name, found in rewards.items()),
                "both to be served again",
            )
        finally:
            done.set()
            for thread in asking:
                thread.join(60)
        with RewardClient(second.url) as other:
            assert other.ready()
    assert failures == []
    assert len({tuple(found) for name in rewards for found in rewards[name]}) == 1
    assert len(rewards["http"][0]) == 16


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_under_the_log_stops_nothing():
    """Every write of the log fails with ENOSPC; it scores all the same, and drains at the end."""
    with serving("stub") as finder:  # its ports are free again when it has left
        ports = ["--http-port", str(finder.http_port), "--grpc-port", str(finder.grpc_port)]
        url = finder.url
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "tureen.cli", "serve", "stub", "--log-requests", *ports],
            stdout=subprocess.DEVNULL,
            stderr=full,
            env={**os.environ, "NO_COLOR": "1"},
        )
    try:
        with RewardClient(url) as client:
            wait_until(lambda: process.poll() is not None or client.ready(), "it to be ready")
            assert process.poll() is None
            assert len(client.score_samples(SAMPLES).results) == 8
            process.terminate()
            assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("jump_s", [-86400, 86400])
def test_a_clock_that_jumps_ends_no_deadline_and_spoils_no_wait(
    monkeypatch: pytest.MonkeyPatch, jump_s: int
):
    """The wall clock is set while a request with a deadline is on the device."""
    body = {"samples": [{"prompt": "a", "responses": ["b"]}]}
    headers = {"x-request-timeout-ms": "15000"}
    answers = []
    with open_doors() as doors:
        doors.gate.hold()
        asking = threading.Thread(
            target=lambda: answers.append(
                httpx2.post(f"{doors.url}/v1/score", json=body, headers=headers, timeout=60)
            )
        )
        asking.start()
        doors.gate.wait_until_entered()
        honest, honest_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: honest() + jump_s)
        monkeypatch.setattr(time, "time_ns", lambda: honest_ns() + jump_s * 10**9)
        doors.gate.open()
        asking.join(20)
        [answer] = answers
        assert answer.status_code == 200
        assert 0 <= float(answer.headers["x-total-time"]) < 15_000
        assert health(doors) == WELL
        counted = doors.admission.metrics.registry.get_sample_value
        seconds = counted("tureen_request_seconds_sum", {"door": "http", "route": "score"})
        assert seconds is not None
        assert 0 <= seconds < 15
