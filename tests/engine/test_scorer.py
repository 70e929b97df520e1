"""The engine as a whole over the stub, whose forward passes a test can hold up."""

import asyncio
import dataclasses
import itertools
import math
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from engine_fakes import Gate

from tureen.contracts import (
    Aggregation,
    Message,
    Priority,
    RankRequest,
    Sample,
    Score,
    ScoreRequest,
    ScoreResponse,
    Truncate,
)
from tureen.engine.limits import EngineLimits
from tureen.engine.scorer import Scorer
from tureen.engine.stub_backend import stub_model
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    TureenError,
    UnknownHead,
    UnknownModel,
)

MODEL = stub_model()
SAMPLE = Sample(
    id="q1",
    prompt="Who painted it?",
    context=("It is by Rembrandt.", "It is of 1642."),
    responses=("Rembrandt did. In 1642, as far as anybody can tell today.", "Vermeer."),
)


class Held:
    """The stub's backend, with `script` in front of it once a test sets one."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.info = inner.info
        self.script: Callable | None = None
        self.rows = 0
        self.closed = False

    def forward(self, batch):
        self.rows += batch.rows
        if self.script is not None:
            self.script(batch)
        return self._inner.forward(batch)

    def close(self) -> None:
        self.closed = True


class Engine:
    """A started scorer and its backend."""

    def __init__(self, **limits) -> None:
        self.backend = Held(MODEL.backend)
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
        gate = Gate(lambda batch: np.empty(0))
        self.backend.script = gate
        return gate

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


def test_an_answer_has_all_that_the_contract_promises():
    async def test():
        async with Engine() as engine:
            response = await engine.scorer.score(
                request(
                    dataclasses.replace(SAMPLE, offsets=(((0, 14), (14, 57)), None)),
                    uncertainty=True,
                    members=True,
                )
            )
        info = engine.scorer.model()
        assert (response.model, response.fingerprint) == ("stub", info.fingerprint)
        assert response.soup == "uniform:3"
        (result,) = response.results
        assert (result.id, result.error) == ("q1", None)
        assert result.scores is not None
        for score, text in zip(result.scores, SAMPLE.responses, strict=True):
            assert set(score.heads) == {"preference", "factuality", "relevance", "completeness"}
            assert score.segments is not None
            total = math.fsum(segment.reward for segment in score.segments)
            assert total == pytest.approx(score.reward, abs=1e-5)
            for head in score.heads:
                spans = [(s.start, s.end) for s in score.segments if s.head == head]
                assert "".join(text[start:end] for start, end in spans) == text
            assert score.members is not None
            assert score.reward == pytest.approx(np.mean(score.members), abs=1e-5)
            assert score.uncertainty is not None
            assert score.uncertainty.members == 3
            assert score.tokens > 0
        first, second = result.scores
        assert first.token_rewards is not None
        assert math.fsum(first.token_rewards) == pytest.approx(first.reward, abs=1e-5)
        assert second.token_rewards is None
        timings = response.timings
        assert 0 < timings.tokenize_ns < timings.total_ns
        assert 0 < timings.forward_ns < timings.total_ns
        assert 0 < timings.queue_ns < timings.total_ns

    run(test)


def test_segments_are_left_out_on_request_and_tokens_are_rewarded_all_the_same():
    async def test():
        async with Engine() as engine:
            sample = one("Yes.", offsets=(((0, 4),),))
            response = await engine.scorer.score(request(sample, segments=False))
        score = only(response)
        assert score.segments is None
        assert score.token_rewards == (pytest.approx(score.reward),)

    run(test)


def test_a_sample_that_cannot_be_scored_leaves_its_neighbours_untouched():
    async def test():
        async with Engine() as engine:
            alone = await engine.scorer.score(request())
            response = await engine.scorer.score(
                request(one(""), SAMPLE, one("x" * 5000), Sample(prompt="p", responses=()))
            )
            errors = [result.error for result in response.results]
            assert [error and error.code for error in errors] == [
                "invalid_request",
                None,
                "input_too_long",
                "invalid_request",
            ]
            assert errors[2] is not None
            assert (errors[2].field, errors[2].limit) == ("responses[0]", 4096)
            assert rewards(response)[1] == rewards(alone)[0]
            assert engine.counted("tureen_errors_total", code="invalid_request") == 2
            assert engine.counted("tureen_errors_total", code="input_too_long") == 1

    run(test)


def test_a_score_does_not_depend_on_its_neighbours_or_their_order():
    async def test():
        async with Engine(cache_bytes=0) as engine:
            texts = ("Yes.", "No, it is not.", "It was Rembrandt. He lived in Amsterdam, I think.")
            alone = {
                text: only(await engine.scorer.score(request(one(text)))).reward for text in texts
            }
            for order in itertools.permutations(texts):
                sample = Sample(prompt="Who?", responses=order)
                (together,) = rewards(await engine.scorer.score(request(sample)))
                assert together == [alone[text] for text in order]

    run(test)


def test_messages_and_truncation_reach_the_text_layer():
    async def test():
        async with Engine() as engine:
            chat = Sample(messages=(Message(role="user", content="Who?"),), responses=("He.",))
            long = Sample(prompt="p" * 5000, responses=("He.",))
            response = await engine.scorer.score(request(chat, long, truncate=Truncate.PROMPT))
        assert [result.error for result in response.results] == [None, None]
        score = (response.results[1].scores or (None,))[0]
        assert score is not None
        assert score.tokens == 4096
        assert score.truncated_tokens > 900

    run(test)


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


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        (ScoreRequest(samples=()), InvalidRequest, "samples"),
        (request(model="stubb"), UnknownModel, "model"),
        (request(heads=("truth",)), UnknownHead, "heads[0]"),
        (request(weights={}), InvalidRequest, "weights"),
        (request(Sample(prompt="p", responses=("x",) * 1025)), InvalidRequest, "samples"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole(asked, error, field):
    async def test():
        async with Engine() as engine:
            with pytest.raises(TureenError) as caught:
                await engine.scorer.score(asked)
            assert type(caught.value) is error
            assert caught.value.field == field
            assert engine.counted("tureen_in_flight_responses") == 0

    run(test)


def test_weights_that_overflow_are_the_samples_error():
    async def test():
        async with Engine() as engine:
            response = await engine.scorer.score(
                request(weights={"preference": 1.7e308, "completeness": 1.7e308})
            )
            (result,) = response.results
            assert result.scores is not None or (result.error and result.error.field == "weights")

    run(test)


def test_a_poisoned_response_fails_its_sample_alone():
    async def test():
        async with Engine() as engine:
            poison = await engine.scorer.score(request(one("poison")))
            assert poison.results[0].error is None
        async with Engine(cache_bytes=0) as engine:

            def script(batch):
                if (batch.attention_mask.sum(axis=1) == len("Who?poison") + 3).any():
                    raise ValueError("secret")

            engine.backend.script = script
            response = await engine.scorer.score(
                request(one("good"), one("poison"), one("better still"))
            )
            errors = [result.error for result in response.results]
            assert [error and error.code for error in errors] == [None, "backend_failure", None]
            assert errors[1] is not None
            assert "ValueError" in errors[1].message
            assert "secret" not in errors[1].message
            assert engine.counted("tureen_errors_total", code="backend_failure") == 1

    run(test)


def test_ranking_is_best_first_with_its_probabilities():
    async def test():
        async with Engine() as engine:
            asked = RankRequest(id="r", prompt="Who?", responses=("a", "b", "a"))
            answer = await engine.scorer.rank(asked)
            assert answer.id == "r"
            first, second, third = answer.rewards
            assert first == third
            assert list(answer.ranking) in ([1, 0, 2], [0, 2, 1])
            assert answer.win_probability[0][2] == 0.5
            assert answer.win_probability[0][1] == pytest.approx(1 / (1 + math.exp(second - first)))
            assert [score.reward for score in answer.scores] == list(answer.rewards)
            with pytest.raises(InvalidRequest):
                await engine.scorer.rank(RankRequest(prompt="Who?", responses=("a", "")))

    run(test)


def test_aggregations_over_the_members():
    async def test():
        async with Engine() as engine:
            by = {}
            for aggregation in Aggregation:
                response = await engine.scorer.score(
                    request(one("Yes."), aggregation=aggregation, penalty=0.25, members=True)
                )
                by[aggregation] = only(response)
            members = by[Aggregation.MEAN].members
            assert members is not None
            soup = by[Aggregation.MEAN].reward
            assert by[Aggregation.WORST_CASE].reward == min(members)
            assert by[Aggregation.UNCERTAINTY_WEIGHTED].reward == pytest.approx(
                soup - 0.25 * np.var(members)
            )
            assert engine.backend.rows == 1  # members cost no second pass

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
            while worker is not None and worker.trouble is None:
                await asyncio.sleep(0.001)
            gate.open(1)
            response = await running
            codes = [result.error and result.error.code for result in response.results]
            assert codes == [None, "overloaded"]
            await stopping

    run(test)


def test_a_model_that_fails_its_check_is_not_ready_and_serves_nothing():
    async def test():
        class Drifting(Held):
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


def test_what_is_served_can_be_asked():
    async def test():
        async with Engine(max_batch_tokens=77) as engine:
            listed = engine.scorer.models()
            assert listed.default_model == "stub"
            (info,) = listed.models
            assert info == engine.scorer.model() == engine.scorer.model("stub")
            assert (info.members, info.backend, info.limits.max_batch_tokens) == (3, "stub", 77)
            with pytest.raises(UnknownModel, match="did you mean 'stub'"):
                engine.scorer.model("stab")

    run(test)


@pytest.mark.parametrize("models", [[], ["stub", "stub"]])
def test_models_need_ids_of_their_own(models):
    with pytest.raises(ValueError, match="each id once"):
        Scorer([MODEL for _ in models])


def test_the_default_model_is_among_them():
    with pytest.raises(ValueError, match="default_model"):
        Scorer([MODEL], default_model="other")


def test_a_big_request_is_answered_in_its_order():
    async def test():
        async with Engine(max_batch_requests=4) as engine:
            texts = [f"Answer number {number}. It is long enough." for number in range(200)]
            response = await engine.scorer.score(request(*(one(text) for text in texts)))
            for text, together in list(zip(texts, rewards(response), strict=True))[::40]:
                alone = await engine.scorer.score(request(one(text)))
                assert rewards(alone)[0] == together

    run(test)
