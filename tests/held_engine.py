"""The engine as a whole over the stub, whose forward passes a test can hold up."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from engine_fakes import Gate, Gated

from tureen.contracts import (
    Sample,
    Score,
    ScoreRequest,
    ScoreResponse,
)
from tureen.engine.limits import EngineLimits
from tureen.engine.scorer import Scorer
from tureen.engine.stub_backend import stub_model

MODEL = stub_model()
SAMPLE = Sample(
    id="q1",
    prompt="Who painted it?",
    context=("It is by Rembrandt.", "It is of 1642."),
    responses=("Rembrandt did. In 1642, as far as anybody can tell today.", "Vermeer."),
)


class Engine:
    """A started scorer and its backend."""

    def __init__(self, **limits) -> None:
        self.backend = Gated(MODEL.backend)
        model = dataclasses.replace(MODEL, backend=self.backend)
        self.scorer = Scorer([model], limits=EngineLimits(**limits))

    async def __aenter__(self):
        await self.scorer.start()
        assert self.scorer.ready() == (True, "ready")
        self.backend.rows = 0
        return self

    async def __aexit__(self, *_):
        await self.scorer.stop(0.01)

    def hold(self) -> Gate:
        self.backend.hold()
        return self.backend

    def counted(self, name: str, **labels: str) -> float:
        return self.scorer.metrics.registry.get_sample_value(name, labels) or 0.0

    def cache(self, outcome: str) -> float:
        return self.counted("tureen_cache_total", model="stub", outcome=outcome)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded():
        await asyncio.wait_for(test(), 60)

    asyncio.run(bounded())


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.wait_until_entered)


def request(*samples: Sample, **options) -> ScoreRequest:
    return ScoreRequest(samples=samples or (SAMPLE,), **options)


def one(response: str, **fields) -> Sample:
    return Sample(prompt="Who?", responses=(response,), **fields)


def only(response: ScoreResponse) -> Score:
    """The score of a request with one response."""
    (result,) = response.results
    assert result.scores is not None, result.error
    (score,) = result.scores
    return score


def rewards(response: ScoreResponse) -> list[list[float] | None]:
    return [
        None if result.scores is None else [score.reward for score in result.scores]
        for result in response.results
    ]
