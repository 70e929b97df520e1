"""What the front of the engine answers."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from held_engine import MODEL, SAMPLE, Engine, one, only, request, rewards, run

from tureen.contracts import (
    Aggregation,
    Message,
    RankRequest,
    Sample,
    ScoreRequest,
    Truncate,
)
from tureen.engine.scorer import Scorer
from tureen.errors import (
    InvalidRequest,
    TureenError,
    UnknownHead,
    UnknownModel,
)


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
                return MODEL.backend.forward(batch)

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
