"""The real process: it opens early, leaves politely, and says in one line why it cannot start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from doors import Counts, RawGrpc, http_refusal
from engine_fakes import PATIENCE_S, wait_until
from server_process import Server, serving

from tureen import RewardClient, Sample
from tureen.client import GrpcRewardClient
from tureen.errors import TureenError
from tureen.v1 import reward_pb2 as pb


@pytest.fixture(scope="module")
def server():
    with serving("stub") as running:
        yield running


def in_flight(server: Server) -> float:
    counts = Counts.parse(httpx2.get(server.url + "/metrics").text)
    return counts.samples["tureen_in_flight_responses"]


def test_both_doors_answer(server: Server):
    with RewardClient(server.url) as http, GrpcRewardClient(server.target) as grpc:
        one = http.score("What is 2+2?", ["4", "5"])
        other = grpc.score("What is 2+2?", ["4", "5"])
        assert [score.reward for score in one] == [score.reward for score in other]


def test_the_card_says_what_runs_and_how_to_try_it(server: Server):
    card = "".join(server.log)
    fingerprint = httpx2.get(server.url + "/v1/models").json()["models"][0]["fingerprint"]
    assert fingerprint[:19] in card
    command = re.search(r"curl (\S+) -d '([^']+)'", card)
    assert command
    assert httpx2.post(command[1], content=command[2].encode()).status_code == 200


def test_no_user_text_in_the_log(server: Server):
    secret = "a phrase nobody else would write"
    body = {"samples": [{"prompt": secret, "responses": [secret, "\0" + secret]}], secret: 1}
    httpx2.post(server.url + "/v1/score", json=body)
    del body[secret]
    httpx2.post(server.url + "/v1/score", json=body)
    httpx2.get(f"{server.url}/{secret}")
    assert secret not in "".join(server.log)


def test_a_killed_client_process_frees_its_work(server: Server):
    """Not asked to leave, but killed: the kernel closes its connection, the server forgets its work."""
    text = json.dumps([f"{n} " * 400 for n in range(500)])
    script = (
        "import httpx2, json, sys; texts = json.loads(sys.stdin.read()); print('sent', flush=True);"
        f"httpx2.post('{server.url}/v1/score', timeout=60, "
        "json={'samples': [{'prompt': 'a', 'responses': texts}]})"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(text)
    client.stdin.close()
    assert client.stdout.readline() == "sent\n"
    client.kill()
    client.wait()
    client.stdout.close()

    wait_until(lambda: in_flight(server) == 0, "the work to be freed")
    with RewardClient(server.url) as http:
        assert http.score("Still there?", ["Yes."])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everything_admitted_before_the_signal_is_answered(number: signal.Signals):
    with serving("stub", "--drain-s", "20", "--cache-bytes", "0") as server:
        texts = [f"{n} and some more words. " * 100 for n in range(120)]
        message = pb.ScoreRequest(
            samples=[pb.Sample(prompt="a", responses=texts)]
        ).SerializeToString()
        raw, body = RawGrpc(server.target), {"samples": [{"prompt": "b", "responses": texts}]}
        with ThreadPoolExecutor(4) as pool, RewardClient(server.url) as client:
            posted = [
                pool.submit(httpx2.post, server.url + "/v1/score", json=body, timeout=30)
                for _ in range(2)
            ]
            called = [raw.method("Score").future(message, timeout=30) for _ in range(2)]
            wait_until(lambda: in_flight(server) == 480, "all of it to be admitted")
            server.process.send_signal(number)
            wait_until(lambda: not client.ready(), "the server to stop admitting")
            answers = [future.result().json()["results"] for future in posted]
            assert [len(answer[0]["scores"]) for answer in answers] == [120, 120]
            by_grpc = [pb.ScoreResponse.FromString(call.result(30)).results for call in called]
            assert [len(results[0].scores) for results in by_grpc] == [120, 120]
        assert server.process.wait(20) == 0
        assert any("everything admitted was answered" in line for line in server.log)
        raw.channel.close()


def test_under_load_a_leaving_server_scores_or_refuses_and_nothing_between():
    """Clients keep asking while it leaves: complete scores, then refusals that say to try again, then a shut door."""
    with serving("stub", "--drain-s", "20", "--cache-bytes", "0") as server:
        scored, refused, told = [], [], threading.Event()
        long = "Some words, and more of them. " * 60

        def ask(worker: int) -> None:
            body = {"samples": [{"prompt": f"{worker}", "responses": [long, "short"]}]}
            with httpx2.Client(timeout=30) as client:
                while True:
                    try:
                        response = client.post(server.url + "/v1/score", json=body)
                    except httpx2.TransportError:
                        assert told.is_set(), (
                            "a connection broke before the server was told to leave"
                        )
                        return
                    if response.status_code == 200:
                        scored.append(len(response.json()["results"][0]["scores"]))
                    else:
                        refused.append(http_refusal(response))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, worker) for worker in range(4)]
            wait_until(lambda: len(scored) > 20, "the load to be on")
            told.set()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(25) == 0, "".join(server.log)
            for future in asking:
                future.result(20)
        assert set(scored) == {2}
        assert {(one.status, one.code) for one in refused} <= {(503, "overloaded")}
        assert all("retry-after" in one.headers for one in refused)


def test_an_open_stream_does_not_hold_the_process_up():
    """A client that keeps a stream open without asking anything is told to go."""
    with serving("stub", "--drain-s", "20") as server:
        raw = RawGrpc(server.target)
        silent = threading.Event()
        call = raw.method("ScoreStream", stream=True)(iter(lambda: silent.wait(60) or b"", True))
        with RewardClient(server.url) as http:
            assert http.score("a", ["b"])
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        silent.set()
        call.cancel()
        raw.channel.close()


def test_the_client_sees_a_leaving_server_as_unreachable_and_invents_nothing():
    with serving("stub") as server, RewardClient(server.url, timeout_s=2) as http:
        assert http.ready()
        server.stop()
        with pytest.raises(TureenError, match="No reward was substituted"):
            http.score_samples([Sample(prompt="a", responses=("b",))])


LOADS_FOR_EVER = """
import sys, threading
from tureen import config
from tureen.transports import server

server.load_model = lambda *_, **__: threading.Event().wait()
sys.exit(server.run(config.load(sys.argv[1:])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_still_loads_leaves_at_once(number: signal.Signals):
    ports = ["--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", LOADS_FOR_EVER, "stub", *ports], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        assert any("loading stub" in line for line in process.stderr)  # reads no further
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tureen.cli", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("setting", ["--http-port", "--grpc-port"])
def test_a_port_in_use_is_one_line_and_status_2(setting: str):
    other = {"--http-port": "--grpc-port", "--grpc-port": "--http-port"}[setting]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start("stub", setting, str(port), other, "0")
    assert done.returncode == 2
    assert re.fullmatch(
        rf"tureen: cannot listen on 127\.0\.0\.1:{port} .*{setting}.*\n", done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stub", "--api-key-file", "/nowhere/keys"], "cannot be read"),
        (["stub", "--host", "0.0.0.0"], "--insecure-no-key"),
        (["stub", "--htp-port", "1"], "did you mean '--http-port'"),
        (["no-such-model", "--http-port", "0", "--grpc-port", "0"], "no model 'no-such-model'"),
        (["stub", "no-such-model"], "no model 'no-such-model'"),
        (["stub", "--http-port", "0", "more"], "does not take 'more'"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(arguments: list[str], says: str):
    done = start(*arguments)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("tureen: ")
    assert says in line
    assert "Traceback" not in done.stderr
