"""What a server says of its own health, at each of the places where it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
from doors import OpenDoors, RawGrpc
from engine_fakes import wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc


@dataclass(frozen=True)
class Health:
    """http: of /readyz. grpc: of grpc.health.v1. metric: tureen_ready."""

    http: bool
    grpc: bool
    metric: bool


WELL, ILL = Health(True, True, True), Health(False, False, False)


def health(doors: OpenDoors) -> Health:
    raw = RawGrpc(doors.target)
    try:
        stub: Any = health_pb2_grpc.HealthStub(raw.channel)
        check = stub.Check(health_pb2.HealthCheckRequest())
    finally:
        raw.channel.close()
    assert httpx2.get(f"{doors.url}/healthz", timeout=60).status_code == 200, "the process lives"
    return Health(
        http=httpx2.get(f"{doors.url}/readyz", timeout=60).status_code == 200,
        grpc=check.status == health_pb2.HealthCheckResponse.SERVING,
        metric=doors.counts().samples["tureen_ready"] == 1,
    )


def wait_for_health(doors: OpenDoors, expected: Health) -> None:
    wait_until(lambda: health(doors) == expected, f"{expected}")
