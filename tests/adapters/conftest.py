from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from doors import OpenDoors, open_doors

from tureen import Sample, Score
from tureen.adapters import shared
from tureen.contracts import ScoreRequest


@pytest.fixture(scope="module")
def doors() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


@pytest.fixture
def service(doors: OpenDoors, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenDoors]:
    """The stub, named in the environment as a trainer would."""
    monkeypatch.setenv("TUREEN_URL", doors.target)
    yield doors
    shared.gathered().oracle.close()
    shared._connected.cache_clear()


@pytest.fixture
def score(doors: OpenDoors) -> Callable[..., Score]:
    """What the scorer itself says, in process."""

    def ask(response: str, **sample) -> Score:
        request = ScoreRequest(samples=(Sample(responses=(response,), **sample),), uncertainty=True)
        [result] = doors.call(doors.scorer.score(request)).results
        assert result.scores is not None
        return result.scores[0]

    return ask
