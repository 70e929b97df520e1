"""The scale of a head: calibrated = (value − mean) / std.

It is fitted on a reference set after the soup is made: averaging weights changes the scale of the
values, so calibrations of the ingredients do not carry over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tureen.contracts import Calibration


def fit(values: ArrayLike) -> Calibration:
    """Mean and population standard deviation of a head's values over a reference set.

    Args:
        values: (B,) raw values, B >= 2, one a response (of a segment head the mean over its
            segments).
    Raises:
        ValueError: fewer than two values, one that is not finite, or all of them equal: no scale.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(
            f"values are of shape {array.shape}; a calibration needs a list of at least 2 values."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{int((~np.isfinite(array)).sum())} of {array.size} values are not finite; "
            "a calibration needs finite values: find out what produced them."
        )
    std = float(array.std())
    if std <= np.finfo(np.float32).eps * max(1.0, float(np.abs(array).max())):
        raise ValueError(
            f"all {array.size} values are {array[0]:g}; a calibration needs values that differ: "
            "use a more varied reference set, or train the head."
        )
    return Calibration(mean=float(array.mean()), std=std)
