import numpy as np
import pytest
from simulated_raters import comparisons

from tureen_training.annotators import crowd_bt

PLANTED = np.array([0.95, 0.9, 0.8, 0.7, 0.55, 0.15])  # the last says the opposite


@pytest.mark.parametrize("seed", range(3))
def test_planted_reliabilities_and_values_are_found(seed):
    """40 responses, 3,000 comparisons by six raters. Over 5 seeds: errors of η at most 0.059, correlation of the
    values at least 0.968."""
    values = np.random.default_rng(100 + seed).normal(0, 2, 40)
    chosen, rejected, raters = comparisons(values, PLANTED, pairs=3000, seed=seed)
    result = crowd_bt.fit(chosen, rejected, raters, adversarial=True)
    assert np.abs(result.reliability - PLANTED).max() < 0.1
    assert np.corrcoef(result.values, values)[0, 1] > 0.95
    assert result.values.mean() == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_knowing_the_raters_orders_responses_better_than_counting_wins(seed):
    """Half of the votes come from one who says the opposite and one who tosses a coin."""
    values = np.random.default_rng(200 + seed).normal(0, 2, 40)
    reliability = np.array([0.95, 0.9, 0.1, 0.5])
    chosen, rejected, raters = comparisons(values, reliability, pairs=1200, seed=seed)
    fitted = crowd_bt.fit(chosen, rejected, raters, adversarial=True).values
    wins = np.bincount(chosen, minlength=40) - np.bincount(rejected, minlength=40)
    gain = np.corrcoef(fitted, values)[0, 1] - np.corrcoef(wins, values)[0, 1]
    assert gain > 0.1


def test_without_adversaries_reliability_stays_at_least_a_half():
    values = np.linspace(-3, 3, 20)
    chosen, rejected, raters = comparisons(values, np.array([0.95, 0.9, 0.1]), pairs=900, seed=0)
    reliability = crowd_bt.fit(chosen, rejected, raters).reliability
    assert (reliability >= 0.5).all()
    assert reliability[2] < 0.55


def test_a_response_that_always_won_keeps_a_finite_value():
    result = crowd_bt.fit(np.array([0, 0, 0]), np.array([1, 1, 1]), np.zeros(3, dtype=int))
    assert np.isfinite(result.values).all()
    assert result.log_likelihood + 3 * np.log(2) > 0  # better than tossing a coin


def test_bad_arguments_say_what_to_give():
    with pytest.raises(ValueError, match="got 1, 1, 0"):
        crowd_bt.fit(np.array([0]), np.array([1]), np.array([], dtype=int))
    with pytest.raises(ValueError, match="above 0"):
        crowd_bt.fit(np.array([0]), np.array([1]), np.array([0]), shrinkage=0)
