"""Messages of gRPC calls: asked whose they are before they are read, and not waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from doors import SERVICE, OpenDoors, RawGrpc, open_doors, refusal_of
from engine_fakes import PATIENCE_S

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


def test_a_message_beyond_what_is_read_at_all(raw: RawGrpc, locked: OpenDoors):
    with pytest.raises(grpc.RpcError) as caught:
        call(raw, iter([b"a" * 17_000_000]), KEY)
    assert "larger than max" in str(caught.value)
    assert call(raw, iter([MESSAGE]), KEY)
    assert locked.in_flight() == 0
