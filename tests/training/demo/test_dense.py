"""Demo `dense`: what is rearranged, and how runs are timed, by hand."""

import random

import pytest

from tureen.contracts import Score
from tureen_training.demo.dense import Config, reached, rearranged, timed
from tureen_training.oracle import Unscorable


def score(*amounts: float) -> Score:
    return Score(reward=sum(amounts), heads={}, tokens=1, token_rewards=amounts)


BROKEN = Unscorable("internal", "broken")


def test_scattered_keeps_the_amounts_of_each_response():
    first = score(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    found, broken = rearranged([first, BROKEN], False, random.Random(1))
    assert isinstance(found, Score)
    assert found.reward == 21.0
    assert sorted(found.token_rewards or ()) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert found.token_rewards != first.token_rewards
    assert broken == BROKEN


def test_exchanged_hands_out_each_sum_once_over_the_tokens_of_who_gets_it():
    rewards = [score(1.0), BROKEN, score(2.0, 4.0), score(0.0, 0.0, 9.0)]
    found = rearranged(rewards, True, random.Random(0))
    scores = [one for one in found if isinstance(one, Score)]
    assert found[1] == BROKEN
    assert sorted(one.reward for one in scores) == [1.0, 6.0, 9.0]
    assert [len(one.token_rewards or ()) for one in scores] == [1, 2, 3]
    for one in scores:
        assert sum(one.token_rewards or ()) == pytest.approx(one.reward)


def test_the_mark_is_reached_on_a_straight_line_between_two_looks():
    assert reached([0.0, 0.5, 1.0], 0.75) == 1.5
    assert reached([0.0, 0.8, 0.2], 0.8) == 1.0
    assert reached([0.0, 0.1], 0.5) is None


def test_episodes_are_timed_to_the_holistic_gain():
    every = 2 * 64
    holistic = [0.0, 0.5, 1.0]  # 0.8 at look 1.6
    found = timed(
        {"dense": [[0.0, 0.8, 1.0], [0.0, 0.4, 0.8]], "holistic": [holistic] * 2},
        every=every,
        most=2 * every,
    )
    assert found["arms"]["holistic"]["episodes"] == pytest.approx([1.6 * every] * 2)
    assert found["arms"]["dense"]["episodes"] == pytest.approx([every, 2 * every])
    assert found["arms"]["holistic"]["ratio"]["value"] == pytest.approx(1.0)
    # the geometric mean of 1 / 1.6 and 2 / 1.6
    assert found["arms"]["dense"]["ratio"]["value"] == pytest.approx((2 / 1.6**2) ** 0.5)
    assert found["arms"]["dense"]["never"] == 0
    never = timed({"dense": [[0.0, 0.0, 0.1]], "holistic": [holistic]}, every=every, most=2 * every)
    assert never["arms"]["dense"]["never"] == 1
    assert never["arms"]["dense"]["ratio"]["value"] == pytest.approx(2 / 1.6)


def test_what_cannot_be_run_is_refused():
    with pytest.raises(ValueError, match="give dense, holistic"):
        Config(arms=("dense",))
    with pytest.raises(ValueError, match="must divide"):
        Config(steps=10, look_steps=4)
