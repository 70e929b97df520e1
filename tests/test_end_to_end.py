"""From a real server process to checked rewards: the default soup, real questions, every door."""

import pytest
from real_data import REASON, data_directory, qa_feedback_records

from tureen import RewardClient, Sample, Score
from tureen.client import GrpcRewardClient

NUMBERS = 1e-5  # fp32 on one machine: what may differ between doors, and in sums

OWN = [
    Sample(
        id="night-watch",
        prompt="Who painted the Night Watch, and when?",
        context=("The Night Watch is a 1642 painting by Rembrandt van Rijn.",),
        responses=("Rembrandt painted it in 1642.", "Vermeer painted it. I like tulips."),
        offsets=(((0, 9), (9, 17), (17, 20), (20, 23), (23, 28), (28, 29)), None),
    ),
    Sample(
        id="umlauts",
        prompt="Wo fließt die Elbe?",
        responses=("Die Elbe fließt durch Dresden 🌊 und Hamburg; sie mündet in die Nordsee.",),
    ),
    Sample(
        id="japanese",
        prompt="富士山の高さは？",
        context=("富士山は標高3776メートルの火山である。",),
        responses=("富士山の高さは3776メートルです。日本で一番高い山で、とても有名です。",),
    ),
]


def questions() -> list[Sample]:
    return [
        Sample(
            id=record["question_id"],
            prompt=record["question"],
            context=tuple(" ".join(passage) for passage in record["passages"]),
            responses=tuple(record[f"prediction {number}"] for number in (1, 2, 3, 4)),
            offsets=(words(record["prediction 1"]), None, None, None),
        )
        for record in qa_feedback_records(12)
    ]


def words(text: str) -> tuple[tuple[int, int], ...]:
    """Stand-in for a policy's tokens: words with the space before them."""
    ends = [i for i, char in enumerate(text) if char == " "] + [len(text)]
    return tuple(zip([0, *ends[:-1]], ends, strict=True))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("own"),
        pytest.param(
            "qa_feedback",
            marks=[pytest.mark.slow, pytest.mark.skipif(not data_directory(), reason=REASON)],
        ),
    ],
)
def scored(request, grounded_qa) -> dict[str, list[tuple[Sample, list[Score]]]]:
    """Door -> samples with their scores, all options on."""
    samples = OWN if request.param == "own" else questions()
    with RewardClient(grounded_qa.url) as http, GrpcRewardClient(grounded_qa.target) as grpc:
        streamed = dict(grpc.stream(samples, uncertainty=True, members=True))
        results = {
            "http": http.score_samples(samples, uncertainty=True, members=True).results,
            "grpc": grpc.score_samples(samples, uncertainty=True, members=True).results,
            "stream": [streamed[index] for index in range(len(samples))],
        }
    for door in results.values():
        assert [result.error for result in door] == [None] * len(samples)
    return {
        door: list(zip(samples, [list(result.scores or ()) for result in answer], strict=True))
        for door, answer in results.items()
    }


def flat(score: Score) -> list[float]:
    """Every number of a score."""
    numbers = [score.reward, score.tokens, score.truncated_tokens]
    for name in sorted(score.heads):
        head = score.heads[name]
        numbers += [head.value, head.calibrated, head.std or 0.0]
    for segment in score.segments or ():
        numbers += [segment.start, segment.end, segment.value, segment.reward]
    numbers += [*(score.members or ()), *(score.token_rewards or ())]
    return numbers


def test_all_doors_give_the_same_numbers(scored):
    for door in ("grpc", "stream"):
        for (_, http), (_, other) in zip(scored["http"], scored[door], strict=True):
            for one, two in zip(http, other, strict=True):
                assert flat(two) == pytest.approx(flat(one), abs=NUMBERS)
                assert [s.head for s in two.segments] == [s.head for s in one.segments]


def test_every_unit_of_reward_has_an_address(scored):
    for sample, scores in scored["http"]:
        for number, score in enumerate(scores):
            total = sum(segment.reward for segment in score.segments)
            assert total == pytest.approx(score.reward, abs=NUMBERS)
            if sample.offsets and sample.offsets[number]:
                assert len(score.token_rewards) == len(sample.offsets[number])
                assert sum(score.token_rewards) == pytest.approx(score.reward, abs=NUMBERS)
            else:
                assert score.token_rewards is None


def test_segments_of_a_head_tile_the_response(scored):
    for sample, scores in scored["http"]:
        for response, score in zip(sample.responses, scores, strict=True):
            for head in score.heads:
                spans = [(s.start, s.end) for s in score.segments if s.head == head]
                pieces = [response[start:end] for start, end in spans]
                assert all(pieces)
                assert "".join(pieces) == response
                assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]


def test_members_spread_around_the_soup(scored):
    """A uniform soup of linear heads on one trunk is the mean of its members."""
    for _, scores in scored["http"]:
        for score in scores:
            mean = sum(score.members) / len(score.members)
            variance = sum((member - mean) ** 2 for member in score.members) / len(score.members)
            assert score.uncertainty.members == len(score.members) >= 3
            assert score.reward == pytest.approx(mean, abs=NUMBERS)
            assert score.uncertainty.std == pytest.approx(variance**0.5, abs=NUMBERS)
            assert score.uncertainty.low == min(score.members)
            assert score.uncertainty.high == max(score.members)
