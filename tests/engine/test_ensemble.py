"""Rewards worked out by hand."""

import math

import numpy as np
import pytest

from tureen.contracts import Aggregation, Calibration, Granularity, ScoreOptions
from tureen.engine.ensemble import (
    combine_windows,
    judge,
    ranking,
    variance,
    win_probability,
)
from tureen.engine.plan import make_plan
from tureen.errors import InvalidRequest
from tureen.model.manifest import HeadSpec
from tureen.text.encoding import Unit

RESPONSE, SENTENCE = Granularity.RESPONSE, Granularity.SENTENCE

HEADS = (
    HeadSpec(
        name="preference",
        granularity=RESPONSE,
        weight=0.5,
        calibration=Calibration(mean=1.0, std=2.0),
    ),
    HeadSpec(name="factuality", granularity=SENTENCE, weight=2.0),
)
UNITS = (Unit(RESPONSE, 0, 10), Unit(SENTENCE, 0, 4), Unit(SENTENCE, 4, 10))

# Two members and their mean, the soup: preference at the response, factuality at two sentences.
#   member 1: preference 2 -> c = 0.5; factuality (1, 3) -> c = 2; r = 0.25 + 4 = 4.25
#   member 2: preference 4 -> c = 1.5; factuality (0, 0) -> c = 0; r = 0.75 + 0 = 0.75
#   soup:     preference 3 -> c = 1.0; factuality (0.5, 1.5) -> c = 1; r = 0.5 + 2 = 2.5
# variance of (4.25, 0.75) = 1.75² = 3.0625
_MEMBERS = np.array(
    [
        [[2.0, 9.0], [4.0, 9.0]],  # (M, H) of the response; what factuality says there is not read
        [[9.0, 1.0], [9.0, 0.0]],
        [[9.0, 3.0], [9.0, 0.0]],
    ]
)
VALUES = np.concatenate([_MEMBERS.mean(axis=1, keepdims=True), _MEMBERS], axis=1)  # (N, G, H)


def judged(values=VALUES, heads=HEADS, units=UNITS, **options):
    return judge([values.astype(np.float32)], units, make_plan(ScoreOptions(**options), heads))


def shares(judgement):
    return [(one.head, one.start, one.end, one.value, one.reward) for one in judgement.segments]


def test_mean_is_the_soup():
    judgement = judged()
    assert judgement.reward == 2.5
    assert {name: (head.value, head.calibrated) for name, head in judgement.heads.items()} == {
        "preference": (3.0, 1.0),
        "factuality": (1.0, 1.0),
    }
    assert shares(judgement) == [
        ("preference", 0, 10, 3.0, 0.5),
        ("factuality", 0, 4, 0.5, 0.5),  # 2 * 0.5 / 2 sentences
        ("factuality", 4, 10, 1.5, 1.5),
    ]
    assert judgement.uncertainty is None
    assert judgement.members is None
    assert all(head.std is None for head in judgement.heads.values())


def test_worst_case_is_the_least_convinced_member():
    judgement = judged(aggregation=Aggregation.WORST_CASE)
    assert judgement.reward == 0.75
    assert shares(judgement)[-1] == ("penalty", 0, 10, 1.75, -1.75)  # 2.5 - 0.75
    assert judgement.uncertainty is not None
    assert judgement.uncertainty.low == 0.75


def test_uncertainty_weighted_takes_the_variance_off():
    judgement = judged(aggregation=Aggregation.UNCERTAINTY_WEIGHTED, penalty=0.4)
    assert judgement.reward == pytest.approx(2.5 - 0.4 * 3.0625)  # 1.275
    assert shares(judgement)[-1] == pytest.approx(("penalty", 0, 10, 1.225, -1.225))


def test_a_penalty_of_zero_is_the_soup():
    judgement = judged(aggregation=Aggregation.UNCERTAINTY_WEIGHTED, penalty=0.0)
    assert judgement.reward == 2.5
    assert shares(judgement)[-1] == ("penalty", 0, 10, 0.0, 0.0)


def test_uncertainty_is_the_spread_of_the_members():
    judgement = judged(uncertainty=True, members=True)
    assert judgement.reward == 2.5
    assert judgement.members == (4.25, 0.75)
    uncertainty = judgement.uncertainty
    assert uncertainty is not None
    assert (uncertainty.std, uncertainty.low, uncertainty.high, uncertainty.members) == (
        1.75,
        0.75,
        4.25,
        2,
    )
    # preference (0.5, 1.5) -> 0.5; factuality (2, 0) -> 1
    assert [head.std for head in judgement.heads.values()] == [0.5, 1.0]


def test_members_can_be_had_without_uncertainty():
    judgement = judged(members=True)
    assert judgement.members == (4.25, 0.75)
    assert judgement.uncertainty is None


def test_three_members():
    # one head, calibrated to itself: r = 1, 2, 6; mean 3, variance (4 + 1 + 9) / 3 = 14 / 3
    heads = (HeadSpec(name="preference", granularity=RESPONSE, weight=1.0),)
    values = np.array([[[3.0], [1.0], [2.0], [6.0]]])  # (1, 4, 1)
    units = UNITS[:1]
    rewards = {
        aggregation: judged(values, heads, units, aggregation=aggregation, penalty=0.3).reward
        for aggregation in Aggregation
    }
    assert rewards == pytest.approx(
        {
            Aggregation.MEAN: 3.0,
            Aggregation.WORST_CASE: 1.0,
            Aggregation.UNCERTAINTY_WEIGHTED: 3.0 - 0.3 * 14 / 3,
        }
    )


@pytest.mark.parametrize("aggregation", Aggregation)
def test_one_member_agrees_with_itself(aggregation):
    alone = VALUES[:, :1]
    judgement = judged(alone, aggregation=aggregation, uncertainty=True, members=True)
    assert judgement.reward == 2.5
    assert judgement.members == (2.5,)
    assert judgement.uncertainty is not None
    assert (judgement.uncertainty.std, judgement.uncertainty.members) == (0.0, 1)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_identical_members_have_no_spread_at_all(aggregation):
    """0.1 three times has a mean that is not 0.1; the spread must be 0 all the same."""
    values = np.full((3, 4, 2), 0.1)
    judgement = judged(values, aggregation=aggregation, penalty=5.0, uncertainty=True)
    assert judgement.uncertainty is not None
    assert judgement.uncertainty.std == 0.0
    assert [head.std for head in judgement.heads.values()] == [0.0, 0.0]
    assert judgement.reward == judged(values).reward


def test_variance_is_of_the_population():
    assert variance(np.array([1.0, 3.0])) == 1.0
    assert variance(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])).tolist() == pytest.approx(
        [0.0, 8 / 3]
    )


@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("weights", [None, {"factuality": 1.5}, {"preference": -1.0}])
def test_every_unit_of_reward_has_an_address(aggregation, weights):
    values = np.random.default_rng(0).normal(size=VALUES.shape)
    judgement = judged(values, aggregation=aggregation, weights=weights, penalty=0.7)
    total = math.fsum(segment.reward for segment in judgement.segments)
    assert total == pytest.approx(judgement.reward, abs=1e-9)


def test_weights_replace_the_models():
    # factuality alone at weight 1: c = 1; preference is still computed and weighs nothing
    judgement = judged(weights={"factuality": 1.0})
    assert judgement.reward == 1.0
    assert judgement.heads["preference"].calibrated == 1.0
    assert shares(judgement)[0] == ("preference", 0, 10, 3.0, 0.0)


def test_a_subset_of_the_heads_is_weighed_as_the_model_weighs_it():
    judgement = judged(heads=HEADS[1:], values=VALUES[:, :, 1:])
    assert judgement.reward == 2.0
    chosen = judge(
        [VALUES.astype(np.float32)], UNITS, make_plan(ScoreOptions(heads=("factuality",)), HEADS)
    )
    assert chosen == judgement


@pytest.mark.parametrize(("combine", "expected"), [("mean", 2.0), ("max", 5.0), ("min", -1.0)])
def test_windows_are_combined_as_the_head_says(combine, expected):
    heads = (
        HeadSpec(name="preference", granularity=RESPONSE, weight=1.0, combine=combine),
        HeadSpec(name="other", granularity=RESPONSE, weight=1.0),
    )
    windows = [np.array([[[value, 1.0]]], np.float32) for value in (-1.0, 2.0, 5.0)]
    combined = combine_windows(windows, heads)
    assert combined.dtype == np.float64
    assert combined.tolist() == [[[expected, 1.0]]]


def test_windows_are_combined_before_segments_are_averaged():
    """max over windows per sentence: (1, 4) and (3, 0) are (3, 4), so 3.5 and not max(2.5, 1.5)."""
    heads = (HeadSpec(name="factuality", granularity=SENTENCE, weight=1.0, combine="max"),)
    windows = [
        np.array([[[0.0]], [[first]], [[second]]], np.float32) for first, second in ((1, 4), (3, 0))
    ]
    judgement = judge(windows, UNITS, make_plan(ScoreOptions(), heads))
    assert judgement.reward == 3.5


@pytest.mark.parametrize(
    "options",
    [
        {"weights": {"preference": 1e308, "factuality": 1e308}},
        {"aggregation": Aggregation.UNCERTAINTY_WEIGHTED, "penalty": 1e308},
        {"aggregation": Aggregation.UNCERTAINTY_WEIGHTED, "weights": {"factuality": 1e300}},
        {"uncertainty": True, "weights": {"factuality": 1e200}},  # 1e200 is one, 1e400 is none
    ],
)
def test_a_reward_that_overflows_is_an_error_and_no_number(options):
    with pytest.raises(InvalidRequest, match="must be finite"):
        judged(**options)


def test_segments_that_overflow_are_an_error_even_where_they_cancel():
    values = np.array([[[0.0]], [[10.0]], [[-10.0]]])
    heads = (HeadSpec(name="factuality", granularity=SENTENCE, weight=1.0),)
    with pytest.raises(InvalidRequest, match="must be finite"):
        judged(values, heads, weights={"factuality": 1e308})


def test_a_head_without_units_is_no_zero():
    with pytest.raises(ZeroDivisionError):
        judged(values=VALUES[:1], units=UNITS[:1])


def test_win_probability_is_a_stable_sigmoid():
    # σ(1 / 0.5) = 1 / (1 + e^-2) = 0.880797
    wins = win_probability([1.0, 0.0, -1e6], temperature=0.5)
    assert wins[0, 1] == pytest.approx(0.8807970779778823)
    assert np.diag(wins).tolist() == [0.5, 0.5, 0.5]
    assert wins + wins.T == pytest.approx(np.ones((3, 3)))
    assert wins[0, 2] == 1.0


def test_ranking_is_best_first_and_ties_stay_as_given():
    assert ranking([0.5, 2.0, 0.5, -1.0, 2.0]) == (1, 4, 0, 2, 3)
