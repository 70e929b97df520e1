from collections.abc import Iterator

import pytest
from doors import OpenDoors, open_doors

ADMIN_KEY = "administrator"


@pytest.fixture(scope="session")
def doors() -> Iterator[OpenDoors]:
    with open_doors(
        max_concurrent_requests=100_000, receive_timeout_s=2, admin_key=(ADMIN_KEY,)
    ) as opened:
        yield opened
