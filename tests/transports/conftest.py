from collections.abc import Iterator

import httpx2
import pytest
from doors import OpenDoors, RawGrpc, open_doors
from server_process import ADMIN, Server

from tureen.client import GrpcRewardClient, Retry, RewardClient


@pytest.fixture(scope="module")
def doors() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


@pytest.fixture(scope="module")
def http(doors: OpenDoors) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=doors.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def raw(doors: OpenDoors) -> Iterator[RawGrpc]:
    client = RawGrpc(doors.target)
    yield client
    client.channel.close()


@pytest.fixture(params=["http", "grpc"])
def admin(
    server: Server, request: pytest.FixtureRequest
) -> Iterator[RewardClient | GrpcRewardClient]:
    """Of the module's `server`, through either door; what fails is not tried again."""
    kind, at = (
        (RewardClient, server.url) if request.param == "http" else (GrpcRewardClient, server.target)
    )
    with kind(at, api_key=ADMIN, retry=Retry(max_retries=0)) as client:
        yield client
