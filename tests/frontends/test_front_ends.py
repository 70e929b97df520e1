"""`tureen serve --front-ends 2` as a process: one server to its callers, whichever of them answers."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pico
import pytest
from doors import Counts, http_refusal
from engine_fakes import wait_until
from server_process import Server, serving

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.contracts import Sample, ScoreRequest, ScoreResponse
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.errors import (
    Forbidden,
    InvalidRequest,
    Unauthenticated,
    UnknownModel,
)
from tureen.model.soup import make_soup

ADMIN, SCORING, FEW = "admin-key-0", "scoring-key-0", "few-key-0"
LEAN = {"member-0": 0.9, "member-1": 0.1}
SAMPLES = [Sample(prompt=f"Who {i}?", responses=(f"Rembrandt in {i}.", "No.")) for i in range(6)]
NEVER = Retry(max_retries=0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    return folder / "soup"


@pytest.fixture(scope="module")
def server(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("state")
    keys = folder / "keys"
    keys.write_text(f"{SCORING} name=trainer\n{FEW} name=few quota=3\n", encoding="utf-8")
    flags = (
        *("--front-ends", "2", "--state-dir", str(folder), "--backend", "torch"),
        *("--api-key-file", str(keys), "--drain-s", "20"),
    )
    with serving(str(directory), *flags, env={"TUREEN_ADMIN_KEY": ADMIN}) as running:
        yield running


def test_rewards_are_those_of_the_engine_in_process(server: Server, directory: Path):
    async def in_process() -> ScoreResponse:
        scorer = Scorer([load_model(directory, backend="torch")])
        await scorer.start()
        response = await scorer.score(ScoreRequest(samples=tuple(SAMPLES)))
        await scorer.stop()
        return response

    expected = asyncio.run(in_process())
    with RewardClient(server.url, api_key=SCORING, retry=NEVER) as http:
        assert _rewards(http.score_samples(SAMPLES)) == pytest.approx(_rewards(expected), abs=1e-5)
    with GrpcRewardClient(server.target, api_key=SCORING, retry=NEVER) as grpc:
        answered = grpc.score_samples(SAMPLES)
        assert _rewards(answered) == pytest.approx(_rewards(expected), abs=1e-5)
        assert answered.fingerprint == expected.fingerprint


def connections(server: Server) -> list[httpx2.Client]:
    """More than there are front ends, so that each has some."""
    header = {"authorization": f"Bearer {SCORING}"}
    return [httpx2.Client(base_url=server.url, headers=header, timeout=60) for _ in range(8)]


def _rewards(response: ScoreResponse) -> list[float]:
    return [score.reward for result in response.results for score in result.scores or ()]


@pytest.mark.parametrize("kind", [RewardClient, GrpcRewardClient])
def test_refusals_are_those_of_one_process(server: Server, kind: type):
    at = server.url if kind is RewardClient else server.target
    with kind(at, api_key=SCORING, retry=NEVER) as client:
        with pytest.raises(UnknownModel, match="'nobody' is not served"):
            client.score("Who?", ["Rembrandt."], model="nobody")
        with pytest.raises(InvalidRequest, match="penalty is -1"):
            client.score("Who?", ["Rembrandt."], penalty=-1.0)
        with pytest.raises(Forbidden):
            client.soups()
    with kind(at, api_key="another-key-0", retry=NEVER) as client, pytest.raises(Unauthenticated):
        client.score("Who?", ["Rembrandt."])


def test_metrics_are_of_the_whole_server_whoever_answers(server: Server):
    key = ("http", "score", "ok")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(one) for one in connections(server)]
        before = Counts.parse(clients[0].get("/metrics").text)
        for number, client in enumerate(clients):
            body = {"samples": [{"prompt": f"Count {number}?", "responses": ["One."]}]}
            assert client.post("/v1/score", json=body).status_code == 200
        for client in clients:
            counts = Counts.parse(client.get("/metrics").text)
            assert counts.since(before)[0][key] == len(clients)
            assert counts.samples["tureen_ready"] == 1


def test_a_quota_holds_across_front_ends(server: Server):
    statuses = []
    for number in range(8):  # of 3 a minute
        body = {"samples": [{"prompt": f"Few {number}?", "responses": ["One."]}]}
        header = {"authorization": f"Bearer {FEW}"}
        answer = httpx2.post(f"{server.url}/v1/score", json=body, headers=header, timeout=60)
        statuses.append(answer.status_code)
    assert statuses.count(200) in (3, 4)  # on a slow machine another one has come by
    assert set(statuses) == {200, 429}


def test_a_soup_is_active_at_every_front_end_when_it_is_said_to_be(server: Server):
    with RewardClient(server.url, api_key=ADMIN, retry=NEVER) as admin:
        first = admin.soups().active
        made = admin.create_soup(LEAN).fingerprint
        admin.activate_soup(made)
        with contextlib.ExitStack() as stack:
            for client in [stack.enter_context(one) for one in connections(server)]:
                body = {"samples": [{"prompt": "Who?", "responses": ["Rembrandt."]}]}
                assert client.post("/v1/score", json=body).json()["fingerprint"] == made
                assert client.get("/v1/soups").status_code == 403
        admin.rollback_soup()
        assert admin.soups().active == first


def test_a_front_end_that_dies_is_replaced(server: Server):
    before = server.children("front-end")
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len({*server.children("front-end")} - {*before}) == 1, "another front end")
    with RewardClient(server.url, api_key=SCORING) as client:  # which asks again
        assert len(_rewards(client.score_samples(SAMPLES))) == 12


def test_without_its_device_process_the_server_says_so_and_gets_another(server: Server):
    [device] = server.children("device")
    os.kill(device, signal.SIGSTOP)  # so that a request is on its way when it dies
    body = {"samples": [{"prompt": "Who was it?", "responses": ["Nobody."]}]}
    header = {"authorization": f"Bearer {SCORING}"}
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(
            httpx2.post, f"{server.url}/v1/score", json=body, headers=header, timeout=60
        )
        with contextlib.suppress(TimeoutError):
            asked.result(0.2)
        os.kill(device, signal.SIGKILL)
        refusal = http_refusal(asked.result())
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "overloaded", 1.0)
    assert httpx2.get(f"{server.url}/healthz").status_code == 200
    assert "device process" in httpx2.get(f"{server.url}/readyz").json()["error"]["message"]
    wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, "another device")
    with RewardClient(server.url, api_key=SCORING, retry=NEVER) as client:
        assert len(_rewards(client.score_samples(SAMPLES))) == 12


def test_they_all_leave_together(server: Server):
    """The last test of this server."""
    processes = [*server.children("front-end"), *server.children("device")]
    assert server.stop() == 0
    assert server.log[-1] == "everything admitted was answered\n"
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


def test_what_cannot_be_loaded_is_said_once_and_ends_all():
    arguments = ("serve", "/nowhere", "--http-port", "0", "--grpc-port", "0", "--front-ends", "1")
    done = subprocess.run(
        [sys.executable, "-m", "tureen.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("tureen: ") == 1
    assert "Traceback" not in done.stderr
