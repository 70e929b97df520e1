from collections.abc import Callable, Iterator

import httpx2
import pytest
from server_process import Server, serving

Native = Callable[..., float]


@pytest.fixture(scope="module")
def native(http: httpx2.Client) -> Native:
    """native(response, prompt=…) or native(response, messages=…): the reward by Tureen's own route."""

    def reward(response: str, **prompt: object) -> float:
        sample = {"responses": [response], **prompt}
        answer = http.post("/v1/score", json={"samples": [sample], "segments": False}).json()
        return answer["results"][0]["scores"][0]["reward"]

    return reward


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real process."""
    with serving("stub") as running:
        yield running
