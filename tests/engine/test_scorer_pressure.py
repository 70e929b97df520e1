"""Cache, work in flight, cancellation, deadlines, a full server, start and stop."""

import asyncio
import dataclasses
import time

import pytest
from engine_fakes import Gated, wait_until
from held_engine import MODEL, Engine, entered, one, request, rewards, run

from tureen.contracts import (
    Priority,
    Sample,
)
from tureen.engine.scorer import Scorer
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Overloaded,
)


def test_remembered_values_give_the_same_answer_bit_for_bit():
    async def test():
        async with Engine() as engine:
            first = await engine.scorer.score(request())
            rows = engine.backend.rows
            second = await engine.scorer.score(request())
            assert second.results == first.results
            assert engine.backend.rows == rows
            assert (engine.cache("miss"), engine.cache("hit")) == (2, 2)
            assert second.timings.forward_ns == second.timings.queue_ns == 0

    run(test)


def test_without_a_cache_everything_is_computed_again():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            first = await engine.scorer.score(request())
            second = await engine.scorer.score(request())
            assert second.results == first.results
            assert engine.backend.rows == 4

    run(test)


def test_identical_work_in_flight_is_done_once():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            gate = engine.hold()
            calls = [asyncio.create_task(engine.scorer.score(request())) for _ in range(5)]
            while engine.cache("joined") < 8:
                await asyncio.sleep(0.001)
            gate.open(10)
            answers = await asyncio.gather(*calls)
            assert engine.backend.rows == 2
            assert engine.cache("miss") == 2
            assert all(answer.results == answers[0].results for answer in answers)

    run(test)


def test_a_response_given_twice_is_computed_once():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            sample = Sample(prompt="Who?", responses=("He.", "He."))
            (pair,) = rewards(await engine.scorer.score(request(sample)))
            assert pair is not None
            assert pair[0] == pair[1]
            assert engine.backend.rows == 1

    run(test)


def test_a_cancelled_call_drops_its_work_before_the_device_sees_it():
    async def test():
        async with Engine() as engine:
            gate = engine.hold()
            running = asyncio.create_task(engine.scorer.score(request(one("first"))))
            await entered(gate)
            gone = asyncio.create_task(engine.scorer.score(request(one("second"), one("third"))))
            while engine.counted("tureen_queue_entries", model="stub", lane="interactive") < 2:
                await asyncio.sleep(0.001)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert engine.counted("tureen_queue_entries", model="stub", lane="interactive") == 0
            assert engine.counted("tureen_in_flight_responses") == 1
            gate.open(10)
            await running
            await engine.scorer.score(request(one("fourth")))
            assert engine.backend.rows == 2

    run(test)


def test_work_that_another_call_joined_survives_the_one_that_left():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            gate = engine.hold()
            blocker = asyncio.create_task(engine.scorer.score(request(one("first"))))
            await entered(gate)
            calls = [asyncio.create_task(engine.scorer.score(request(one("same")))) for _ in "ab"]
            while engine.cache("joined") < 1:
                await asyncio.sleep(0.001)
            calls[0].cancel()
            gate.open(10)
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            assert rewards(await calls[1])[0] is not None
            await blocker
            assert engine.backend.rows == 2

    run(test)


def test_a_deadline_that_has_passed_never_reaches_the_backend():
    async def test():
        async with Engine() as engine:
            with pytest.raises(DeadlineExceeded):
                await engine.scorer.score(request(), deadline_ns=time.monotonic_ns() - 1)
            assert engine.backend.rows == 0
            assert engine.counted("tureen_in_flight_responses") == 0

    run(test)


def test_a_deadline_that_passes_in_the_queue_ends_the_call_and_frees_its_work():
    async def test():
        async with Engine() as engine:
            gate = engine.hold()
            running = asyncio.create_task(engine.scorer.score(request(one("first"))))
            await entered(gate)
            with pytest.raises(DeadlineExceeded):
                await engine.scorer.score(
                    request(one("second")), deadline_ns=time.monotonic_ns() + 20_000_000
                )
            assert engine.counted("tureen_queue_entries", model="stub", lane="interactive") == 0
            gate.open(10)
            await running
            assert engine.backend.rows == 1

    run(test)


def test_the_later_deadline_holds_for_work_that_is_shared():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            gate = engine.hold()
            blocker = asyncio.create_task(engine.scorer.score(request(one("first"))))
            await entered(gate)
            soon = asyncio.create_task(
                engine.scorer.score(
                    request(one("same")), deadline_ns=time.monotonic_ns() + 50_000_000
                )
            )
            patient = asyncio.create_task(engine.scorer.score(request(one("same"))))
            with pytest.raises(DeadlineExceeded):
                await soon
            gate.open(10)
            assert rewards(await patient)[0] is not None
            await blocker

    run(test)


def test_a_full_server_refuses_at_once_and_says_when_to_come_back():
    async def test():
        limits = {"max_concurrent_requests": 3, "max_client_batch_size": 2}
        async with Engine(**limits) as engine:
            gate = engine.hold()
            running = asyncio.create_task(engine.scorer.score(request()))
            await entered(gate)
            with pytest.raises(Overloaded) as caught:
                await engine.scorer.score(request())
            assert (caught.value.got, caught.value.limit) == (4, 3)
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s > 0
            gate.open(10)
            await running
            await engine.scorer.score(request())  # the permits came back

    run(test)


def test_an_interactive_call_promotes_the_bulk_work_it_joins():
    async def test():
        async with Engine() as engine:
            gate = engine.hold()
            blocker = asyncio.create_task(engine.scorer.score(request(one("first"))))
            await entered(gate)
            calls = []
            for lane in (Priority.BULK, Priority.INTERACTIVE):
                calls.append(
                    asyncio.create_task(engine.scorer.score(request(one("x")), priority=lane))
                )
                queued = {"model": "stub", "lane": lane.value}
                while not engine.counted("tureen_queue_entries", **queued):
                    await asyncio.sleep(0.001)
            assert engine.counted("tureen_queue_entries", model="stub", lane="bulk") == 0
            gate.open(10)
            await asyncio.gather(blocker, *calls)

    run(test)


def test_stop_finishes_what_is_in_flight_and_admits_no_more():
    async def test():
        async with Engine() as engine:
            gate = engine.hold()
            running = asyncio.create_task(engine.scorer.score(request()))
            await entered(gate)
            stopping = asyncio.create_task(engine.scorer.stop(30))
            await asyncio.sleep(0)
            assert engine.scorer.ready() == (False, "draining")
            with pytest.raises(Overloaded, match="draining") as caught:
                await engine.scorer.score(request())
            assert caught.value.retry_after_s is not None
            gate.open(10)
            assert rewards(await running)[0] is not None
            await stopping
            assert engine.backend.closed

    run(test)


def test_stop_fails_what_does_not_finish_in_time():
    async def test():
        async with Engine(max_batch_requests=1) as engine:
            gate = engine.hold()
            running = asyncio.create_task(engine.scorer.score(request(one("a"), one("b"))))
            await entered(gate)
            stopping = asyncio.create_task(engine.scorer.stop(0.01))
            worker = engine.scorer._servings["stub"]._worker
            assert worker is not None
            await asyncio.to_thread(wait_until, lambda: worker.trouble is not None, "the stop")
            gate.open(1)
            response = await running
            codes = [result.error and result.error.code for result in response.results]
            assert codes == [None, "overloaded"]
            await stopping

    run(test)


def test_a_model_that_fails_its_check_is_not_ready_and_serves_nothing():
    async def test():
        class Drifting(Gated):
            """Values depend on how often the device was asked."""

            def forward(self, batch):
                return super().forward(batch) + self.rows

        scorer = Scorer([dataclasses.replace(MODEL, backend=Drifting(MODEL.backend))])
        await scorer.start()
        ready, why = scorer.ready()
        assert not ready
        assert "neighbours" in why
        with pytest.raises(BackendFailure, match="does not serve"):
            await scorer.score(request())
        await scorer.stop(0)

    run(test)


def test_it_is_not_ready_before_it_is_started():
    async def test():
        scorer = Scorer([MODEL])
        assert scorer.ready()[0] is False
        with pytest.raises(BackendFailure):
            await scorer.score(request())
        await scorer.stop(0)

    run(test)
