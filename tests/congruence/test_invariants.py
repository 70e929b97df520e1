"""What holds for every model, through every door (DESIGN, section 9)."""

import math
from dataclasses import replace

import pico
import pytest
from doors import open_doors

from tureen import Aggregation, Sample, Score, ScoreRequest
from tureen.contracts import PENALTY_SEGMENT, Granularity
from tureen.engine.loading import load_model
from tureen.model.soup import make_soup

TOLERANCE = 1e-5  # float32

QUESTION = Sample(
    prompt="Who painted the Night Watch, and when?",
    context=("The Night Watch is a 1642 painting by Rembrandt van Rijn.",),
    responses=(
        "Rembrandt painted it in 1642. It hangs in Amsterdam, where many come to see it every year.",
        "Vermeer.",
        "Naïve café; 👩‍👩‍👧 said so, and I do believe her, since she knows.\n\nOr not? Who knows!",
        "レンブラントです。1642年に描かれました。",
    ),
)
STRANGERS = tuple(
    Sample(prompt=f"What is {n}?", responses=(f"It is {n}. " * (1 + n % 5), "Nobody knows."))
    for n in range(12)
)


def scores(response) -> list[Score]:
    found = []
    for result in response.results:
        assert result.error is None, result.error
        found += result.scores
    return found


def rewards(response) -> list[float]:
    return [score.reward for score in scores(response)]


def test_a_score_does_not_depend_on_its_neighbours(ask):
    alone = [
        rewards(ask(ScoreRequest(samples=(replace(QUESTION, responses=(response,)),))))[0]
        for response in QUESTION.responses
    ]
    crowd = rewards(ask(ScoreRequest(samples=(*STRANGERS, QUESTION))))[-len(alone) :]
    assert crowd == pytest.approx(alone, abs=TOLERANCE)


def test_the_order_of_responses_is_irrelevant(ask):
    forwards = rewards(ask(ScoreRequest(samples=(QUESTION,))))
    turned = replace(QUESTION, responses=QUESTION.responses[::-1])
    backwards = rewards(ask(ScoreRequest(samples=(turned,))))
    assert backwards[::-1] == pytest.approx(forwards, abs=TOLERANCE)


def test_the_same_response_twice_has_the_same_reward(ask):
    twice = replace(QUESTION, responses=(QUESTION.responses[0],) * 2)
    first, second = rewards(ask(ScoreRequest(samples=(twice,))))
    assert first == pytest.approx(second, abs=TOLERANCE)


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_every_unit_of_reward_has_an_address(ask, aggregation: Aggregation):
    """Segments of a head tile the response; the shares of all of them, and of the tokens, add up to the reward."""
    offsets = tuple(
        tuple((place, place + 1) for place in range(len(response)))
        for response in QUESTION.responses
    )
    request = ScoreRequest(
        samples=(replace(QUESTION, offsets=offsets),), aggregation=aggregation, penalty=2.0
    )
    for response, score in zip(QUESTION.responses, scores(ask(request)), strict=True):
        assert score.segments is not None
        assert score.token_rewards is not None
        total = math.fsum(segment.reward for segment in score.segments)
        assert total == pytest.approx(score.reward, abs=TOLERANCE)
        assert math.fsum(score.token_rewards) == pytest.approx(score.reward, abs=TOLERANCE)
        assert len(score.token_rewards) == len(response)
        for head in score.heads:
            parts = [segment for segment in score.segments if segment.head == head]
            assert "".join(response[part.start : part.end] for part in parts) == response
        penalties = [one for one in score.segments if one.head == PENALTY_SEGMENT]
        assert len(penalties) == (aggregation is not Aggregation.MEAN)
        for penalty in penalties:
            assert (penalty.start, penalty.end) == (0, len(response))
            assert penalty.reward == -penalty.value


def test_the_value_of_a_head_is_the_mean_of_its_segments(ask):
    for score in scores(ask(ScoreRequest(samples=(QUESTION,)))):
        assert score.segments is not None
        for name, head in score.heads.items():
            values = [segment.value for segment in score.segments if segment.head == name]
            assert head.value == pytest.approx(math.fsum(values) / len(values), abs=TOLERANCE)


def test_the_reward_is_the_weighted_sum_of_calibrated_heads(served, ask):
    info = served.doors.scorer.model()
    for score in scores(ask(ScoreRequest(samples=(QUESTION,)))):
        expected = 0.0
        for head in info.heads:
            mean, std = head.calibration.mean, head.calibration.std
            calibrated = (score.heads[head.name].value - mean) / std
            assert score.heads[head.name].calibrated == pytest.approx(calibrated, abs=TOLERANCE)
            expected += head.weight * calibrated
        assert score.reward == pytest.approx(expected, abs=TOLERANCE)


def test_aggregations_are_what_they_say(ask):
    """worst_case is the least member; uncertainty_weighted is the mean less λ times the population variance."""
    request = ScoreRequest(samples=(QUESTION,), uncertainty=True, members=True)
    mean = scores(ask(request))
    worst = rewards(ask(replace(request, aggregation=Aggregation.WORST_CASE)))
    weighted = replace(request, aggregation=Aggregation.UNCERTAINTY_WEIGHTED, penalty=0.7)
    doubted = rewards(ask(weighted))
    for score, least, less in zip(mean, worst, doubted, strict=True):
        assert score.members is not None
        assert score.uncertainty is not None
        average = math.fsum(score.members) / len(score.members)
        variance = math.fsum((one - average) ** 2 for one in score.members) / len(score.members)
        assert score.reward == pytest.approx(average, abs=TOLERANCE)  # of a uniform soup
        assert least == pytest.approx(min(score.members), abs=TOLERANCE)
        assert less == pytest.approx(average - 0.7 * variance, abs=TOLERANCE)
        doubt = score.uncertainty
        assert (doubt.low, doubt.high) == pytest.approx(
            (min(score.members), max(score.members)), abs=TOLERANCE
        )
        assert doubt.std == pytest.approx(math.sqrt(variance), abs=TOLERANCE)
        assert doubt.members == len(score.members)


@pytest.mark.parametrize("aggregation", [Aggregation.MEAN, Aggregation.UNCERTAINTY_WEIGHTED])
def test_a_penalty_of_zero_is_zero(ask, aggregation: Aggregation):
    plain = rewards(ask(ScoreRequest(samples=(QUESTION,))))
    request = ScoreRequest(samples=(QUESTION,), aggregation=aggregation, penalty=0.0)
    assert rewards(ask(request)) == pytest.approx(plain, abs=TOLERANCE)


def test_segments_are_sentences_of_the_text_they_name(served, ask):
    granularity = {head.name: head.granularity for head in served.doors.scorer.model().heads}
    first = scores(ask(ScoreRequest(samples=(QUESTION,))))[0]
    assert first.segments is not None
    sentences = [
        QUESTION.responses[0][segment.start : segment.end].strip()
        for segment in first.segments
        if granularity[segment.head] is Granularity.SENTENCE
    ]
    assert sentences == [
        "Rembrandt painted it in 1642.",
        "It hangs in Amsterdam, where many come to see it every year.",
    ]


def test_identical_members_agree(tmp_path):
    """A soup of one checkpoint three times: no spread, all aggregations alike, and the checkpoint's own rewards."""
    [member] = pico.bert_members(tmp_path / "members", n=1)
    make_soup([member] * 3, None, tmp_path / "soup", "uniform")
    found = {}
    for name, path in (("soup", tmp_path / "soup"), ("member", member)):
        model = load_model(path, backend="torch", device="cpu", threads=1)
        with open_doors(model) as doors:
            for aggregation in Aggregation:
                request = ScoreRequest(
                    samples=(QUESTION,), aggregation=aggregation, penalty=3.0, uncertainty=True
                )
                found[name, aggregation] = scores(doors.call(doors.scorer.score(request)))
    expected = [score.reward for score in found["member", Aggregation.MEAN]]
    for given in found.values():
        assert [score.reward for score in given] == pytest.approx(expected, abs=TOLERANCE)
        assert [score.uncertainty and score.uncertainty.std for score in given] == [0.0] * 4
