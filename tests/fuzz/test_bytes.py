"""Bytes that nobody meant to send, at both doors: refused as the caller's mistake, never as a fault of ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import grpc
import httpx2
import pytest
from doors import OpenDoors, RawGrpc, refusal_of
from fault_watch import WELL, health
from fuzz.conftest import ADMIN_KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tureen.contracts import Priority
from tureen.v1 import reward_pb2 as pb

few = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

GOOD = json.dumps(
    {"samples": [{"prompt": "a", "context": ["b"], "responses": ["c", "d"]}]}
).encode()
MESSAGE = pb.ScoreRequest(
    samples=[pb.Sample(id="1", prompt="a", context=["b"], responses=["c", "d"])], uncertainty=True
).SerializeToString()
METHODS = [
    (service.full_name, method)
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,  # of what has no soups
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """`good` with a piece replaced by other bytes."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 8)))
    return good[:start] + draw(st.binary(max_size=8)) + good[end:]


@st.composite
def odd_bodies(draw: st.DrawFn) -> bytes:
    """Well-formed JSON with the right names and anything in their places."""
    names = st.sampled_from(["samples", "model", "heads", "weights", "penalty", "truncate"])
    body = draw(st.dictionaries(names, json_values, max_size=4))
    return json.dumps(body).encode()


@pytest.fixture(scope="module")
def http(doors: OpenDoors) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=doors.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def raw(doors: OpenDoors) -> Iterator[RawGrpc]:
    client = RawGrpc(doors.target)
    yield client
    client.channel.close()


@pytest.fixture(scope="module")
def routes(http: httpx2.Client) -> dict[str, bytes]:
    """Every route that takes a body, and one that it takes."""
    return {
        path.replace("{model}", "rm"): json.dumps(
            operations["post"]["requestBody"]["content"]["application/json"]["example"]
        ).encode()
        for path, operations in http.get("/openapi.json").json()["paths"].items()
        if "requestBody" in operations.get("post", {})
    }


@settings(few, max_examples=20)
@given(data=st.data())
def test_bodies(http: httpx2.Client, routes: dict[str, bytes], data: st.DataObject):
    """At every route in turn: bytes, its own example damaged, and well-formed JSON of other things."""
    for route, good in routes.items():
        body = data.draw(st.binary(max_size=200) | damaged(good) | odd_bodies(), label=route)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"} if "/soups" in route else {}
        answer = http.post(route, content=body, headers=headers)
        assert answer.status_code in (200, 400, 404, 409, 413, 422, 424), answer.text
        answer.json()


printable = st.characters(codec="latin-1", exclude_categories=["Cc"])  # else the client refuses
header_values = st.text(printable, max_size=20).map(str.strip)


@few
@given(
    timeout=header_values | st.floats().map(str),
    lane=header_values | st.sampled_from([*Priority]),
    request_id=header_values,
)
def test_headers(http: httpx2.Client, timeout: str, lane: str, request_id: str):
    headers = [
        ("x-request-timeout-ms", timeout),
        ("x-priority", lane),
        ("x-request-id", request_id),
    ]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = http.post("/v1/score", content=GOOD, headers=encoded)
    assert answer.status_code in (200, 400, 422, 504), answer.text


REQUEST = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD)


@few
@given(sent=st.binary(max_size=300) | damaged(REQUEST))
def test_bytes_on_the_http_port(doors: OpenDoors, sent: bytes):
    """No HTTP at all, or nearly: an answer with a status of the caller's, or the connection ends."""
    with socket.create_connection(("127.0.0.1", doors.http_port), 20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    assert answer[:9] in (b"", b"HTTP/1.1 ")
    assert answer[9:10] in (b"", b"2", b"4"), answer


@few
@given(sent=st.binary(max_size=300))
def test_bytes_on_the_grpc_port(doors: OpenDoors, sent: bytes):
    with socket.create_connection(("127.0.0.1", doors.grpc_port), 20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + sent)


@few
@given(message=st.binary(max_size=200) | damaged(MESSAGE))
def test_messages(raw: RawGrpc, message: bytes):
    """At every method of both services; a stream says in its answer what another call is refused for."""
    for service, method in METHODS:
        try:
            if method.client_streaming:
                [answer] = raw.method(method.name, stream=True)(iter([message]), timeout=60)
                pb.ScoreResponse.FromString(answer)
            else:
                call = raw.channel.unary_unary(f"/{service}/{method.name}", None, None)
                call(message, timeout=60, metadata=(("authorization", f"Bearer {ADMIN_KEY}"),))
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            assert refusal.status in REFUSED, (method.name, refusal)


def test_afterwards_all_is_well(doors: OpenDoors, raw: RawGrpc):
    assert raw.method("Score")(MESSAGE, timeout=60)
    assert health(doors) == WELL
    assert doors.in_flight() == 0
    assert "backend_failure" not in doors.counts().errors
