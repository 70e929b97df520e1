"""One scorer of two models: what happens to one does not happen to the other."""

import asyncio
import dataclasses

import numpy as np
import pytest
from engine_fakes import Gated
from held_engine import MODEL, entered, one, only, request, run

from tureen.contracts import Priority
from tureen.engine.limits import EngineLimits
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.errors import BackendFailure, Overloaded
from tureen.text.batch import Batch


def named(name: str) -> tuple[ServedModel, Gated]:
    backend = Gated(MODEL.backend)
    backend.info = dataclasses.replace(backend.info, fingerprint=f"sha256:{name}")
    manifest = dataclasses.replace(MODEL.manifest, model_id=name)
    return dataclasses.replace(MODEL, backend=backend, manifest=manifest), backend


class Two:
    def __init__(self, **limits: int) -> None:
        (first, self.first), (second, self.second) = named("first"), named("second")
        self.scorer = Scorer([first, second], limits=EngineLimits(**limits))

    async def __aenter__(self):
        await self.scorer.start()
        return self

    async def __aexit__(self, *_):
        self.first.open()
        self.second.open()
        await self.scorer.stop(0.01)


def raising(batch: Batch) -> np.ndarray:
    raise RuntimeError("broken")


def not_finite(batch: Batch) -> np.ndarray:
    return np.full_like(MODEL.backend.forward(batch), np.nan)


def dying(batch: Batch) -> np.ndarray:
    raise SystemExit("dead")


@pytest.mark.parametrize("fault", [raising, not_finite, dying])
def test_a_broken_model_leaves_the_other_answering(fault):
    async def test() -> None:
        async with Two() as two:
            expected = only(await two.scorer.score(request(one("a"), model="second"))).reward
            two.first.script = fault
            broken = await two.scorer.score(request(one("b"), model="first"))
            assert broken.results[0].error is not None
            assert broken.results[0].error.code == BackendFailure.code
            for _ in range(3):
                answer = await two.scorer.score(request(one("a"), one("c"), model="second"))
                assert answer.results[0].scores is not None
                assert answer.results[0].scores[0].reward == expected
                assert answer.results[1].error is None
            ready, reason = two.scorer.ready()
            assert not ready
            assert reason.startswith("first: ")

    run(test)


def test_a_flood_for_one_model_does_not_turn_the_other_away():
    """Of 8 permits 4 are anybody's, and of the other 4 each model keeps 2."""

    async def test() -> None:
        async with Two(max_concurrent_requests=8, max_client_batch_size=2) as two:
            two.first.hold()
            flood = [
                asyncio.create_task(two.scorer.score(request(one(f"{i}"), model="first")))
                for i in range(6)
            ]
            await entered(two.first)
            with pytest.raises(Overloaded):
                await two.scorer.score(request(one("6"), model="first"))
            both = asyncio.create_task(
                two.scorer.score(request(one("a"), one("b"), model="second"))
            )
            await asyncio.sleep(0)
            two.first.open()
            assert [result.error for result in (await both).results] == [None, None]
            await asyncio.gather(*flood)

    run(test)


def test_a_person_who_asks_one_model_waits_for_no_more_bulk_of_the_other():
    async def test() -> None:
        async with Two(max_batch_requests=1) as two:
            two.first.hold()
            bulk = [
                asyncio.create_task(
                    two.scorer.score(request(one(f"{i}"), model="first"), priority=Priority.BULK)
                )
                for i in range(5)
            ]
            await entered(two.first)
            rows = two.first.rows
            person = asyncio.create_task(two.scorer.score(request(one("a"), model="second")))
            waiting = two.scorer.metrics.registry.get_sample_value
            labels = {"model": "second", "lane": "interactive"}
            while not waiting("tureen_queue_entries", labels):
                await asyncio.sleep(0)
            two.first.open(1)  # the batch on the device
            await person
            assert two.first.rows - rows <= 1
            two.first.open()
            await asyncio.gather(*bulk)

    run(test)
