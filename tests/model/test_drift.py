import math

import numpy as np
import pytest

from tureen.model.drift import BINS, RewardReference, drift, reward_reference
from tureen.model.schema import SchemaError, decode


def test_psi_by_hand():
    """Two bins, 10 rewards then, half and half; 10 now, 2 and 8. With half a reward in each bin the
    shares are 5.5/11 = 0.5 and 0.5 then, 2.5/11 and 8.5/11 now:
    PSI = (2.5/11 − 0.5)·ln(5/11) + (8.5/11 − 0.5)·ln(17/11) = 3/11 · ln(3.4)
    """
    reference = RewardReference(edges=(0.0,), counts=(5, 5))
    today = [-1.0] * 2 + [1.0] * 8
    assert drift(today, reference) == pytest.approx(3 / 11 * math.log(3.4))


def test_what_lies_on_an_edge_belongs_to_the_bin_below():
    reference = RewardReference(edges=(0.0,), counts=(1, 1))
    assert drift([0.0, 1.0], reference) == pytest.approx(0.0)


def test_the_same_rewards_have_not_drifted():
    rewards = np.random.default_rng(0).normal(size=1000)
    assert drift(rewards, reward_reference(rewards)) == pytest.approx(0.0, abs=1e-12)


def test_chance_alone_stays_far_below_the_thresholds_and_half_a_deviation_does_not():
    """Of 2048 against 5000 chance gives (B − 1)(1/2048 + 1/5000) = 0.006; of normal distributions
    half a standard deviation apart the divergence is (μ/σ)² = 0.25, a little less in ten bins."""
    random = np.random.default_rng(1)
    reference = reward_reference(random.normal(size=5000))
    assert drift(random.normal(size=2048), reference) < 0.02
    assert 0.18 < drift(random.normal(0.5, size=2048), reference) < 0.27


def test_a_reference_holds_a_tenth_in_each_bin():
    reference = reward_reference(np.arange(1000.0))
    assert len(reference.edges) == BINS - 1
    assert reference.counts == (100,) * BINS


def test_equal_rewards_share_a_bin():
    reference = reward_reference([0.0] * 50 + [1.0] * 50)
    assert reference.edges == (0.0,)
    assert reference.counts == (50, 50)


def test_members_that_differ_leave_the_mean_of_their_variance():
    members = [[0.0] * BINS, [2.0] * BINS]  # population variance 1
    assert reward_reference(np.arange(BINS), members).member_variance == 1.0
    assert reward_reference(np.arange(BINS), members[:1]).member_variance is None
    assert reward_reference(np.arange(BINS), [members[0]] * 2).member_variance is None


@pytest.mark.parametrize("rewards", [[], [1.0] * (BINS - 1), [math.nan] * BINS, np.ones((BINS, 2))])
def test_too_little_or_no_number_is_no_reference(rewards):
    with pytest.raises(ValueError, match="at least 10 finite"):
        reward_reference(rewards)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"edges": [0.0], "counts": [1]}, "one more than edges"),
        ({"edges": [0.0], "counts": [0, 0]}, "not all 0"),
        ({"edges": [1.0, 1.0], "counts": [1, 1, 1]}, "above the one before"),
        ({"edges": [], "counts": [3], "member_variance": 0.0}, "above 0"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(data, message):
    with pytest.raises(SchemaError, match=message):
        decode(RewardReference, data, "reward_reference")
