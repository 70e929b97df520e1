"""The law of overoptimisation, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tureen_training.scaling import Law, fitted, held_out, r_squared

E = math.e
D = np.array([0.0, 1.0, E, E**2])
GOLD = np.array([0.0, 3.0, 2 * E, E**2])
"""d (3 − log d): of 0 nothing, of 1 (log 0) 3, of e (log 1) 2 e, of e² (log 2) e². """


def test_the_law_by_hand():
    law = Law(alpha=3.0, beta=1.0)
    np.testing.assert_allclose(law.at(D), GOLD, rtol=1e-12)
    assert law.peak == pytest.approx(E**2)  # exp(3/1 − 1), worth β e² = e²
    assert Law(alpha=1.0, beta=0.0).peak is None
    assert Law(alpha=1.0, beta=-0.5).peak is None


def test_the_fit_finds_what_made_the_points():
    law = fitted(D, GOLD)
    assert (law.alpha, law.beta) == pytest.approx((3.0, 1.0))


def test_least_squares_by_hand():
    """At d = 1 the law is α, at e it is e (α − β): points 2 and 4 at d = 1 share α = 3; e (3 − β) = e is β = 2."""
    law = fitted(np.array([1.0, 1.0, E]), np.array([2.0, 4.0, E]))
    assert (law.alpha, law.beta) == pytest.approx((3.0, 2.0))


def test_one_distance_is_no_curve():
    with pytest.raises(ValueError, match=r"two distances above 0; given \[0.0, 4.0\]"):
        fitted(np.array([0.0, 4.0, 4.0]), np.array([0.0, 1.0, 1.0]))


def test_r_squared_by_hand():
    actual = np.array([1.0, 2.0, 3.0])
    assert r_squared(actual, actual) == 1.0
    assert r_squared(actual, np.full(3, 2.0)) == 0.0
    assert r_squared(actual, np.array([1.0, 2.0, 5.0])) == -1.0  # 1 − 4 / 2


def test_each_form_is_best_on_points_of_its_own():
    d = np.linspace(0.1, 5, 40)
    curved, straight = held_out(d, Law(2.0, 1.5).at(d)), held_out(d, 1 + 2 * d)
    assert curved["law"] == pytest.approx(1.0)
    assert curved["line"] < 0.9
    assert straight["line"] == pytest.approx(1.0)
    assert straight["law"] < 1.0
