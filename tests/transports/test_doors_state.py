"""Who may come in, and when: keys, readiness, health, reflection."""

from typing import Any

import grpc
import httpx2
import pytest
from doors import OpenDoors, RawGrpc, http_refusal, open_doors
from engine_fakes import wait_until
from fault_watch import ILL, WELL, health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tureen.engine.stub_backend import StubBackend
from tureen.transports.admission import Admission
from tureen.v1 import reward_pb2 as pb

BODY = {"samples": [{"prompt": "a", "responses": ["b"]}]}
MESSAGE = pb.ScoreRequest(samples=[pb.Sample(prompt="a", responses=["b"])]).SerializeToString()
KEYS = ("first-key", "second-key")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def locked():
    with open_doors(api_key=KEYS) as opened:
        yield opened


@pytest.fixture(scope="module")
def locked_raw(locked: OpenDoors):
    client = RawGrpc(locked.target)
    yield client
    client.channel.close()


WRONG = [
    "",
    "Bearer",
    "Bearer wrong",
    "Basic first-key",
    "first-key",
    "Bearer first-keyy",
]


@pytest.mark.parametrize("credentials", [None, *WRONG, "Bearer schlüssel"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/score"),
        ("POST", "/v1/rank"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/stub"),
    ],
)
def test_http_asks_for_a_key(locked: OpenDoors, credentials: str | None, method: str, path: str):
    headers = [] if credentials is None else [(b"authorization", credentials.encode())]
    response = httpx2.request(method, locked.url + path, json=BODY, headers=headers)
    refusal = http_refusal(response)
    assert (refusal.status, refusal.code) == (401, "unauthenticated")
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert not any(key in response.text for key in KEYS)


@pytest.mark.parametrize("credentials", [None, *WRONG])
@pytest.mark.parametrize("method", ["Score", "Rank", "ListModels", "GetModel"])
def test_grpc_asks_for_a_key(locked_raw: RawGrpc, credentials: str | None, method: str):
    metadata = [] if credentials is None else [("authorization", credentials)]
    refusal = locked_raw.refusal(method, b"", metadata=metadata)
    assert (refusal.status, refusal.code) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "unauthenticated",
    )


@pytest.mark.parametrize("credentials", [f"Bearer {KEYS[0]}", f"bearer {KEYS[1]}"])
def test_every_key_opens_both_doors(locked: OpenDoors, locked_raw: RawGrpc, credentials: str):
    headers = {"Authorization": credentials}
    assert httpx2.post(locked.url + "/v1/score", json=BODY, headers=headers).status_code == 200
    metadata = [("authorization", credentials)]
    assert locked_raw.method("Score")(MESSAGE, metadata=metadata)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_operating_routes_need_no_key(locked: OpenDoors, path: str):
    assert httpx2.get(locked.url + path).status_code == 200


def health_of(raw: RawGrpc) -> Any:
    return health_pb2_grpc.HealthStub(raw.channel)


def reflection_of(raw: RawGrpc) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(raw.channel)


def test_health_and_reflection_need_no_key(locked_raw: RawGrpc):
    health = health_of(locked_raw)
    assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
    assert reflected(locked_raw) >= {"tureen.v1.RewardService", "grpc.health.v1.Health"}


def reflected(raw: RawGrpc) -> set[str]:
    stub = reflection_of(raw)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([ask]))
    return {service.name for service in answer.list_services_response.service}


def test_reflection_describes_the_service(raw: RawGrpc):
    stub = reflection_of(raw)
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tureen.v1.RewardService")
    [answer] = stub.ServerReflectionInfo(iter([ask]))
    assert len(answer.file_descriptor_response.file_descriptor_proto) == 1


def closed(doors: OpenDoors, reason: str) -> None:
    async def close(admission: Admission) -> None:
        admission.close(reason)

    doors.call(close(doors.admission))


def reopened(doors: OpenDoors) -> None:
    async def reopen(admission: Admission) -> None:
        admission.open(doors.scorer, doors.soups)

    doors.call(reopen(doors.admission))


@pytest.fixture
def shut(doors: OpenDoors):
    closed(doors, "stub is being loaded")
    yield doors
    reopened(doors)


def test_while_closed_scoring_is_refused_with_a_time_to_come_back(
    shut: OpenDoors, http: httpx2.Client, raw: RawGrpc
):
    refusal = http_refusal(http.post("/v1/score", json=BODY))
    assert (refusal.status, refusal.code) == (503, "overloaded")
    assert "stub is being loaded" in refusal.message
    assert refusal.headers["retry-after"] == "1"
    refusal = raw.refusal("Score", MESSAGE)
    assert (refusal.status, refusal.retry_after_s) == (grpc.StatusCode.UNAVAILABLE, 1.0)


def test_while_closed_the_process_lives_and_is_not_ready(shut: OpenDoors, http: httpx2.Client):
    assert http.get("/healthz").json() == {"status": "ok"}
    refusal = http_refusal(http.get("/readyz"))
    assert (refusal.status, refusal.code) == (503, "overloaded")
    assert "stub is being loaded" in refusal.message
    assert http.head("/readyz").status_code == 503


def test_health_follows_readiness(doors: OpenDoors, raw: RawGrpc):
    """Check knows at once; Watch is told without asking."""
    health = health_of(raw)
    ask = health_pb2.HealthCheckRequest(service="tureen.v1.RewardService")
    watch = health.Watch(ask)
    next(told for told in watch if told.status == SERVING)  # what a test before left may come first
    closed(doors, "a test wants it so")
    try:
        assert health.Check(ask).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        assert next(watch).status == NOT_SERVING
    finally:
        reopened(doors)
    assert next(watch).status == SERVING
    watch.cancel()


def test_all_that_tell_of_health_agree_on_a_server_that_leaves(doors: OpenDoors):
    assert health(doors) == WELL
    closed(doors, "a test wants it so")
    try:
        assert health(doors) == ILL
    finally:
        reopened(doors)
    assert health(doors) == WELL


def test_health_of_a_service_that_is_not_here(raw: RawGrpc):
    health = health_of(raw)
    ask = health_pb2.HealthCheckRequest(service="tureen.v1.Nothing")
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(ask)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # pyright: ignore
    assert next(health.Watch(ask)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_a_model_that_fails_its_check_is_never_ready(monkeypatch: pytest.MonkeyPatch):
    """Its values move with the size of the batch; the process lives, says why, and gives no number."""
    honest = StubBackend.forward
    monkeypatch.setattr(
        StubBackend, "forward", lambda self, batch: honest(self, batch) + len(batch.input_ids)
    )
    with open_doors() as doors:
        refusal = http_refusal(httpx2.get(doors.url + "/readyz"))
        assert refusal.status == 503
        assert "neighbours" in refusal.message
        assert http_refusal(httpx2.post(doors.url + "/v1/score", json=BODY)).status in (500, 503)
        raw = RawGrpc(doors.target)
        assert health_of(raw).Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        raw.channel.close()


def test_drained_waits_for_what_was_admitted(doors: OpenDoors):
    doors.gate.hold()
    raw = RawGrpc(doors.target)
    try:
        call = raw.method("Score").future(MESSAGE.replace(b"b", b"c"))
        wait_until(lambda: doors.admission.in_flight == 1, "the call to be admitted")
        closed(doors, "leaving")
        assert doors.admission.in_flight == 1
        doors.gate.open()
        doors.call(doors.admission.drained())
        assert call.result(20)
    finally:
        doors.gate.open()
        reopened(doors)
        raw.channel.close()
