from __future__ import annotations

import pytest

from tureen.model.calibration import fit


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
