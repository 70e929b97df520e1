from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tureen.contracts import Calibration, Granularity
from tureen.model.calibration import (
    fit,
    fit_temperature,
    fit_threshold,
    rewards,
    scales,
    standardise,
    win_probability,
)
from tureen.model.manifest import HeadSpec

HEADS = (
    HeadSpec(
        name="a",
        granularity=Granularity.RESPONSE,
        weight=2.0,
        calibration=Calibration(mean=1.0, std=2.0),
    ),
    HeadSpec(name="b", granularity=Granularity.SENTENCE, weight=-1.0, threshold=-0.5),
)


def test_mean_and_population_deviation():
    # mean 2; squares 4 + 0 + 4 over 3: √(8/3)
    calibration = fit([0.0, 2.0, 4.0])
    assert calibration.mean == 2.0
    assert calibration.std == pytest.approx((8 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least 2"),
        ([1.0], "at least 2"),
        ([[1.0, 2.0]], "shape"),
        ([1.0, float("nan")], "1 of 2 values are not finite"),
        ([1.0, float("inf"), float("nan")], "2 of 3 values are not finite"),
        ([2.5, 2.5, 2.5], "all 3 values are 2.5"),
        ([100.0, 100.000001], "all 2 values are 100"),  # rounding is no scale
    ],
)
def test_no_scale_is_an_error(values: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        fit(values)


def test_a_reward_is_the_weighted_sum_of_calibrated_values():
    # (3 − 1) / 2 · 2 + (0.5 − 0) / 1 · −1; (1 − 1) / 2 · 2 + 4 · −1
    assert rewards([[3.0, 0.5], [1.0, 4.0]], HEADS).tolist() == [1.5, -4.0]
    assert standardise(np.array([5.0, 1.0]), *scales(HEADS)).tolist() == [2.0, 1.0]


def test_win_probability_by_hand():
    # σ(log 3 · 2 / 2) = ¾
    assert win_probability([2 * np.log(3), 0.0, -2 * np.log(3)], 2.0) == pytest.approx(
        [0.75, 0.5, 0.25]
    )
    assert win_probability(0.0, 1.0) == 0.5
    assert win_probability([1e6, -1e6], 0.1).tolist() == [1.0, 0.0]


def test_temperature_by_hand():
    # half of the comparisons lost at the same margin: nothing is known, T is as large as may be
    assert fit_temperature([1.0, -1.0]) == pytest.approx(100.0)
    # 3 of 4 won at margin 2: σ(2 / T) = ¾, T = 2 / log 3
    assert fit_temperature([2.0, 2, 2, -2]) == pytest.approx(2 / np.log(3), rel=0.02)
    with pytest.raises(ValueError, match="at least one comparison"):
        fit_temperature([])


def test_threshold_by_hand():
    # errors at 0 and 2: below 1 F1 = 2/3, below 1.5 ½, below 2.5 2·2/(3+2) = 0.8, below 3.5 2·2/(4+2)
    values, errors = [0.0, 1.0, 2.0, 3.0, 4.0], [True, False, True, False, False]
    assert fit_threshold(values, errors) == 2.5
    # errors at 0 and 3 of 0 … 3: below ½ F1 = 2·1/(1+2), and no less is called so well
    assert fit_threshold([0.0, 1.0, 2.0, 3.0], [True, False, False, True]) == 0.5


def test_no_threshold_calls_better_than_the_fitted_one():
    rng = np.random.default_rng(5)
    errors = rng.random(200) < 0.3
    values = np.round(rng.normal(size=200) - errors, 1)  # with ties
    best = f1_score(errors, values < fit_threshold(values, errors))
    for t in np.arange(-4, 4, 0.05):
        assert f1_score(errors, values < t) <= best + 1e-12


@pytest.mark.parametrize(
    ("values", "errors", "message"),
    [
        ([0.0, 1.0], [True, True], "2 of 2 units are errors"),
        ([0.0, 1.0], [False, False], "0 of 2 units are errors"),
        ([1.0, 1.0], [True, False], "differ by 0"),
        ([], [], "both classes"),
        ([1.0, 2.0], [True], "both must be"),
    ],
)
def test_no_threshold_is_an_error(values: list[float], errors: list[bool], message: str):
    with pytest.raises(ValueError, match=message):
        fit_threshold(values, errors)


def test_without_a_threshold_the_mean_decides():
    assert [head.error_below for head in HEADS] == [1.0, -0.5]
