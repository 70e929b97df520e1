"""Messages of gRPC calls: asked whose they are before they are read, and not waited for without end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from doors import SERVICE, OpenDoors, RawGrpc, open_doors, refusal_of
from engine_fakes import PATIENCE_S
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tureen.v1 import reward_pb2 as pb

MESSAGE = pb.ScoreRequest(samples=[pb.Sample(prompt="a", responses=["b"])]).SerializeToString()
KEY = (("authorization", "Bearer right"),)


@pytest.fixture(scope="module")
def locked() -> Iterator[OpenDoors]:
    with open_doors(api_key=("right",), receive_timeout_s=0.5) as doors:
        yield doors


@pytest.fixture
def raw(locked: OpenDoors) -> Iterator[RawGrpc]:
    client = RawGrpc(locked.target)
    yield client
    client.channel.close()


def call(raw: RawGrpc, messages: Iterator[bytes], metadata: tuple = ()) -> bytes:
    """A call whose message need not come: on the wire a call of one message is a stream of one."""
    method = raw.channel.stream_unary(SERVICE + "Score", None, None)
    return method(messages, metadata=metadata, timeout=PATIENCE_S)


def refused(raw: RawGrpc, messages: Iterator[bytes], metadata: tuple = ()) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(raw, messages, metadata)
    return refusal_of(caught.value).code


def never(until: threading.Event) -> Iterator[bytes]:
    until.wait(PATIENCE_S)
    yield from ()


@pytest.mark.parametrize(
    ("metadata", "code"), [((), "unauthenticated"), (KEY, "deadline_exceeded")]
)
def test_a_message_that_does_not_come(raw: RawGrpc, metadata: tuple, code: str):
    """A stranger is refused without it; who may score has `receive_timeout_s` for it."""
    over = threading.Event()
    assert refused(raw, never(over), metadata) == code
    over.set()


def test_no_message(raw: RawGrpc):
    assert refused(raw, iter(()), KEY) == "invalid_request"


def test_one_message(raw: RawGrpc):
    answer = pb.ScoreResponse.FromString(call(raw, iter([MESSAGE]), KEY))
    assert len(answer.results[0].scores) == 1


def test_timings_come_before_the_answer_as_over_http(raw: RawGrpc):
    method = raw.channel.unary_unary(SERVICE + "Score", None, None)
    _, asked = method.with_call(MESSAGE, metadata=KEY)
    told = {key: str(value) for key, value in asked.initial_metadata() if key.startswith("x-")}
    names = ("compute", "total", "tokenization", "queue", "inference")
    assert set(told) == {f"x-{name}-time" for name in names}
    assert all(value.isdecimal() for value in told.values())


def test_health_speaks_of_each_service(raw: RawGrpc):
    """Without a key, as an orchestrator asks."""
    stub: Any = health_pb2_grpc.HealthStub(raw.channel)
    for service in ("", "tureen.v1.RewardService", "tureen.v1.SoupService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="tureen.v1.Nobody"))
    assert "NOT_FOUND" in str(caught.value)


def test_connections_above_the_limit_are_closed():
    """What a client says first, and what this server says first: its settings, or nothing."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
    with open_doors(max_connections=2) as doors, ExitStack() as held:
        said = []
        for _ in range(3):
            one = held.enter_context(
                socket.create_connection(("127.0.0.1", doors.grpc_port), PATIENCE_S)
            )
            with suppress(ConnectionError):
                one.sendall(preface)
                said.append(one.recv(1000)[3:4])
        assert [frame for frame in said if frame] == [b"\x04", b"\x04"]


def test_a_message_beyond_what_is_read_at_all(raw: RawGrpc, locked: OpenDoors):
    with pytest.raises(grpc.RpcError) as caught:
        call(raw, iter([b"a" * 17_000_000]), KEY)
    assert "larger than max" in str(caught.value)
    assert call(raw, iter([MESSAGE]), KEY)
    assert locked.in_flight() == 0
