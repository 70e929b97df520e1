import math
from itertools import combinations

import numpy as np
import pytest

from tureen_training.best_of_n import best_of_n, kl_of_best_of_n


def test_best_of_two_of_three_by_hand():
    """Sorted by proxy, gold is 5, 1, 3. Of the three pairs the best is 1, 3 and 3."""
    proxy, gold = np.array([0.2, 0.1, 0.9]), np.array([1.0, 5.0, 3.0])
    assert best_of_n(proxy, gold, 2) == pytest.approx(7 / 3)
    assert best_of_n(proxy, gold, 1) == pytest.approx(3.0)
    assert best_of_n(proxy, gold, 3) == pytest.approx(3.0)


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_it_is_the_mean_over_all_subsets(n: int):
    """Ties included: each of the tied is taken equally often."""
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, 7).astype(float), rng.normal(size=7)
    means = []
    for chosen in combinations(range(7), n):
        best = max(proxy[list(chosen)])
        means.append(np.mean([gold[i] for i in chosen if proxy[i] == best]))
    if n in (1, 7):  # a tie inside a subset is not one of the whole
        assert best_of_n(proxy, gold, n) == pytest.approx(np.mean(means))
    untied = proxy + np.arange(7) / 100
    expected = np.mean(
        [gold[max(chosen, key=lambda i: untied[i])] for chosen in combinations(range(7), n)]
    )
    assert best_of_n(untied, gold, n) == pytest.approx(expected)


def test_ties_are_broken_at_random():
    """Over all orders of two tied samples beside a worse one: best of two is ⅓ (4 + 8) / 2 · 2 + ⅓ (4 + 8) / 2."""
    assert best_of_n(np.array([0.0, 1.0, 1.0]), np.array([0.0, 4.0, 8.0]), 2) == pytest.approx(6.0)


def test_large_numbers_stay_finite():
    gold = np.linspace(0, 1, 60_000)
    assert best_of_n(gold, gold, 12_500) == pytest.approx(12_500 / 12_501, abs=1e-4)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.0), (4, 0.64), (64, 3.17), (1024, 5.93)])
def test_the_distance_of_best_of_n(n: int, expected: float):
    assert kl_of_best_of_n(n) == pytest.approx(expected, abs=0.006)
    assert kl_of_best_of_n(4) == pytest.approx(math.log(4) - 0.75)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match=r"n is 4; of 3 samples it must be in 1 … 3"):
        best_of_n(np.zeros(3), np.zeros(3), 4)
    with pytest.raises(ValueError, match="one shape"):
        best_of_n(np.zeros(3), np.zeros(4), 1)
