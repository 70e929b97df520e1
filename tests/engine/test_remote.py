"""An engine elsewhere, as a door sees it; that it gives the engine's own answers is in `congruence`."""

import asyncio
import time
from dataclasses import replace

import pytest
from held_engine import SAMPLE, Engine, run

from tureen.contracts import Priority, RankRequest, ScoreRequest, ScoreResponse
from tureen.engine.caller import CALLER, Caller
from tureen.engine.limits import EngineLimits
from tureen.engine.metrics import Metrics
from tureen.engine.quota import Quota
from tureen.engine.remote import Answer, Asked, RemoteScorer, answer
from tureen.errors import BackendFailure, DeadlineExceeded, Overloaded, QuotaExceeded

REQUEST = ScoreRequest(samples=(SAMPLE,))
RANK = RankRequest(prompt="Who?", responses=("I.", "You."))


def remote(ask) -> RemoteScorer:
    return RemoteScorer(ask, EngineLimits(), Metrics())


def test_it_knows_what_it_was_told():
    async def nobody(asked: Asked) -> Answer:
        raise AssertionError

    async def test() -> None:
        scorer = remote(nobody)
        assert scorer.ready() == (False, "the engine has not been heard of")
        with pytest.raises(Overloaded, match="the engine has not been heard of"):
            scorer.models()
        async with Engine() as engine:
            scorer.learn(engine.scorer.models(), None)
            assert scorer.model() == engine.scorer.model()
        scorer.learn(None, "no engine is up")
        assert scorer.ready() == (False, "no engine is up")
        assert scorer.model().id == "stub"  # what was known last

    run(test)


def test_a_caller_travels_without_what_is_the_doors_own():
    async def test() -> None:
        seen: list[Asked] = []

        async def refuse(asked: Asked) -> Answer:
            seen.append(asked)
            return Overloaded("full", retry_after_s=1.0)

        scorer = remote(refuse)
        quota = Quota(2, clock=lambda: 0.0)
        caller = Caller("r1", client="trainer", quota=quota)
        CALLER.set(caller)
        for _ in range(2):  # refused there, so nothing of the quota is gone: 2 of 2, twice
            with pytest.raises(Overloaded, match="full"):
                await scorer.score(REQUEST)
        assert seen[0].caller == Caller("r1", client="trainer")
        assert caller.samples == [SAMPLE, SAMPLE]  # for a log that holds text

        async def fail(asked: Asked) -> Answer:
            return BackendFailure("broken")

        scorer = remote(fail)
        with pytest.raises(BackendFailure):
            await scorer.score(REQUEST)
        with pytest.raises(QuotaExceeded):  # work was done for it
            await scorer.score(REQUEST)

    run(test)


def test_a_deadline_travels_as_the_time_that_is_left():
    async def test() -> None:
        async with Engine() as engine:
            seen: list[int] = []

            async def ask(asked: Asked) -> Answer:
                assert asked.left_ns is not None
                seen.append(asked.left_ns)
                return await answer(engine.scorer, asked)

            scorer = remote(ask)
            deadline_ns = time.monotonic_ns() + 30 * 10**9
            assert isinstance(await scorer.score(REQUEST, deadline_ns=deadline_ns), ScoreResponse)
            assert 0 < seen[0] <= 30 * 10**9
            with pytest.raises(DeadlineExceeded):
                await scorer.score(REQUEST, deadline_ns=time.monotonic_ns() - 1)

    run(test)


def test_cancelling_it_there_drops_the_work():
    async def test() -> None:
        async with Engine() as engine:
            gate = engine.hold()
            asked = Asked(REQUEST, None, priority=Priority.INTERACTIVE, left_ns=None)
            blocking = asyncio.create_task(answer(engine.scorer, asked))
            await asyncio.to_thread(gate.wait_until_entered)
            other = replace(REQUEST, samples=(replace(SAMPLE, prompt="Another?"),))
            task = asyncio.create_task(answer(engine.scorer, replace(asked, request=other)))
            while not engine.counted("tureen_queue_entries", model="stub", lane="interactive"):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            assert isinstance(await blocking, ScoreResponse)
            assert engine.backend.rows == len(SAMPLE.responses)  # of the first alone

    run(test)


def test_an_answer_of_another_kind_is_no_answer():
    async def test() -> None:
        async def ask(asked: Asked) -> Answer:
            async with Engine() as engine:
                return await engine.scorer.score(REQUEST)

        with pytest.raises(BackendFailure, match="ScoreResponse, not RankResponse"):
            await remote(ask).rank(RANK)

    run(test)
