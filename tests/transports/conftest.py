from collections.abc import Iterator

import httpx2
import pytest
from doors import OpenDoors, RawGrpc, open_doors


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
