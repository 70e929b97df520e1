"""What happens when there is too much, too late, or nobody left to tell.

The stub's device is held back by a gate: each moment is brought about instead of waited for.
"""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx2
import pytest
from doors import OpenDoors, RawGrpc, http_refusal, open_doors
from engine_fakes import wait_until

from tureen.v1 import reward_pb2 as pb

TINY: dict[str, Any] = {"max_concurrent_requests": 2, "max_client_batch_size": 2, "cache_bytes": 0}


def sample(response: str = "4") -> dict:
    return {"samples": [{"prompt": "What is 2+2?", "responses": [response]}]}


def message(response: str = "4") -> bytes:
    one = pb.Sample(prompt="What is 2+2?", responses=[response])
    return pb.ScoreRequest(samples=[one]).SerializeToString()


def post(doors: OpenDoors, content: dict, **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(f"{doors.url}/v1/score", json=content, headers=names, timeout=20)


@pytest.fixture
def doors():
    with open_doors(**TINY) as opened:
        yield opened


@pytest.fixture
def raw(doors):
    client = RawGrpc(doors.target)
    yield client
    client.channel.close()


def test_a_full_server_refuses_at_once_and_says_when_to_come_back(doors: OpenDoors, raw: RawGrpc):
    doors.gate.hold()
    with ThreadPoolExecutor() as pool:
        admitted = [pool.submit(post, doors, sample(text)) for text in "ab"]
        wait_until(lambda: doors.in_flight() == 2, "two responses in flight")
        refusal = http_refusal(post(doors, sample("c")))
        assert (refusal.status, refusal.code) == (503, "overloaded")
        assert refusal.retry_after_s is not None
        assert refusal.retry_after_s > 0
        assert int(refusal.headers["retry-after"]) >= refusal.retry_after_s
        by_grpc = raw.refusal("Score", message("c"))
        assert (by_grpc.status, by_grpc.code) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
        assert by_grpc.retry_after_s is not None
        doors.gate.open()
        assert [future.result().status_code for future in admitted] == [200, 200]
    assert post(doors, sample("c")).status_code == 200
    counts = doors.counts()
    assert counts.requests == {
        ("http", "score", "ok"): 3,
        ("http", "score", "overloaded"): 1,
        ("grpc", "score", "overloaded"): 1,
    }
    assert counts.errors == {"overloaded": 2}


def test_a_passed_deadline_is_an_error_and_its_work_is_dropped(doors: OpenDoors, raw: RawGrpc):
    doors.gate.hold()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, doors, sample("holds the device"))
        wait_until(lambda: doors.gate.rows == 1, "the first response on the device")
        refusal = http_refusal(post(doors, sample("late"), x_request_timeout_ms="50"))
        assert (refusal.status, refusal.code) == (504, "deadline_exceeded")
        with pytest.raises(grpc.RpcError) as caught:
            raw.method("Score")(message("late"), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # pyright: ignore
        wait_until(lambda: doors.in_flight() == 1, "the late ones to be dropped")
        doors.gate.open()
        assert first.result().status_code == 200
    assert doors.gate.rows == 1, "late work reached the device"
    wait_until(lambda: len(doors.counts().requests) == 3, "the late call to be counted")
    assert doors.counts().requests == {
        ("http", "score", "ok"): 1,
        ("http", "score", "deadline_exceeded"): 1,
        ("grpc", "score", "deadline_exceeded"): 1,
    }
    assert doors.counts().errors == {"deadline_exceeded": 2}


def test_no_time_at_all_is_a_passed_deadline(doors: OpenDoors):
    refusal = http_refusal(post(doors, sample(), x_request_timeout_ms="0"))
    assert (refusal.status, refusal.code) == (504, "deadline_exceeded")


def hang_up_http(doors: OpenDoors) -> None:
    content = json.dumps(sample("abandoned")).encode()
    with socket.create_connection(("127.0.0.1", doors.http_port)) as connection:
        head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        wait_until(lambda: doors.in_flight() == 2, "the request in flight")


def hang_up_grpc(doors: OpenDoors) -> None:
    client = RawGrpc(doors.target)
    call = client.method("Score").future(message("abandoned"))
    wait_until(lambda: doors.in_flight() == 2, "the call in flight")
    call.cancel()
    client.channel.close()


def hang_up_stream(doors: OpenDoors) -> None:
    client = RawGrpc(doors.target)
    one = pb.Sample(id="1", prompt="a", responses=["abandoned"])
    call = client.method("ScoreStream", stream=True)(
        iter([pb.ScoreRequest(samples=[one]).SerializeToString()])
    )
    wait_until(lambda: doors.in_flight() == 2, "the message in flight")
    call.cancel()
    client.channel.close()


@pytest.mark.parametrize(
    ("hang_up", "door", "route"),
    [
        (hang_up_http, "http", "score"),
        (hang_up_grpc, "grpc", "score"),
        (hang_up_stream, "grpc", "stream"),
    ],
)
def test_a_killed_client_frees_its_work(doors: OpenDoors, hang_up, door: str, route: str):
    """Its entries leave the queue before the device sees them, and its permits are free."""
    doors.gate.hold()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, doors, sample("holds the device"))
        wait_until(lambda: doors.gate.rows == 1, "the first response on the device")
        hang_up(doors)
        wait_until(lambda: doors.in_flight() == 1, "the abandoned response to be freed")
        doors.gate.open()
        assert first.result().status_code == 200
    assert doors.gate.rows == 1, "abandoned work reached the device"
    assert post(doors, sample("next")).status_code == 200
    assert doors.counts().requests[door, route, "cancelled"] == 1
    assert doors.counts().errors == {}


def half_sent(doors: OpenDoors, header: str = "") -> socket.socket:
    """A connection whose request waits for the rest of its body."""
    connection = socket.create_connection(("127.0.0.1", doors.http_port), 20)
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n{header}"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it is being read
    connection.sendall(b"{")
    return connection


def test_a_client_that_leaves_while_it_sends_is_forgotten(doors: OpenDoors):
    half_sent(doors).close()
    cancelled = {("http", "score", "cancelled"): 1}
    wait_until(lambda: doors.counts().requests == cancelled, "the request to be forgotten")
    assert doors.counts().errors == {}
    assert post(doors, sample()).status_code == 200


def test_a_body_that_comes_slowly_holds_nothing(doors: OpenDoors):
    """Neither a leaving server nor other callers wait for it."""
    with half_sent(doors):
        assert doors.admission.in_flight == 0
        doors.call(doors.admission.drained())


def test_who_still_sends_is_told_that_the_server_leaves():
    with open_doors(**TINY) as doors:
        connection = half_sent(doors)
        doors.admission.close("the server is leaving")
    with connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_the_deadline_holds_while_the_body_comes(doors: OpenDoors):
    with half_sent(doors, "X-Request-Timeout-Ms: 50\r\n") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 504 ")
    assert doors.counts().requests == {("http", "score", "deadline_exceeded"): 1}
    assert doors.counts().errors == {"deadline_exceeded": 1}


def test_a_failing_device_is_an_error_and_never_a_number(doors: OpenDoors, raw: RawGrpc):
    """Values that are not finite leave as backend_failure; the engine has nothing to put in their place."""
    honest = doors.gate.script
    doors.gate.script = lambda batch: honest(batch) * float("nan")
    refusal = http_refusal(post(doors, sample("x")))
    assert (refusal.status, refusal.code) == (500, "backend_failure")
    assert raw.refusal("Score", message("y")).code == "backend_failure"
    doors.gate.script = honest
    wait_until(lambda: post(doors, sample("z")).status_code == 200, "the device to be well again")
