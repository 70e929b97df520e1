from __future__ import annotations

import numpy as np
import pytest

from tureen.contracts import Calibration
from tureen.model.calibration import apply, fit


def test_mean_and_population_deviation():
    # mean 2; squares 4 + 0 + 4 over 3: √(8/3)
    calibration = fit([0.0, 2.0, 4.0])
    assert calibration.mean == 2.0
    assert calibration.std == pytest.approx((8 / 3) ** 0.5)


def test_what_it_was_fitted_on_comes_out_standardised():
    values = np.random.default_rng(0).normal(5.0, 3.0, size=1000)
    calibrated = apply(values, fit(values))
    assert calibrated.mean() == pytest.approx(0.0, abs=1e-12)
    assert calibrated.std() == pytest.approx(1.0)


def test_apply_keeps_the_shape():
    calibration = Calibration(mean=1.0, std=2.0)
    assert apply([[1.0, 3.0], [5.0, -1.0]], calibration).tolist() == [[0.0, 1.0], [2.0, -1.0]]


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
