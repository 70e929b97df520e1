"""The scale of values, in one place for training, evaluation and serving.

    calibrated       c = (v − mean) / std                of each head
    reward           r = Σ_h weight_h · c_h
    win probability  σ(Δ / T), Δ the difference of two rewards
    error            a unit of which v < threshold       of heads that speak of units

All four are fitted on a reference set after the soup is made: averaging weights changes the scale of the
values, so what was fitted for the ingredients does not carry over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tureen.contracts import Calibration
from tureen.model.manifest import HeadSpec

TEMPERATURES = (0.1, 100.0)
"""Least and greatest temperature that `fit_temperature` considers."""


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


def scales(heads: Sequence[HeadSpec]) -> tuple[np.ndarray, np.ndarray]:
    """(H,) means and (H,) standard deviations."""
    return (
        np.array([head.calibration.mean for head in heads]),
        np.array([head.calibration.std for head in heads]),
    )


def standardise(values: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """c = (v − mean) / std of raw values (..., H)."""
    return (values - mean) / std


def rewards(values: ArrayLike, heads: Sequence[HeadSpec]) -> np.ndarray:
    """r = Σ_h weight_h · c_h of raw values (..., H) of whole responses. (...) float64."""
    calibrated = standardise(np.asarray(values, np.float64), *scales(heads))
    return calibrated @ np.array([head.weight for head in heads])


def win_probability(margins: ArrayLike, temperature: float) -> np.ndarray:
    """Bradley–Terry: σ(Δ / T), the probability that the first of two responses is preferred.

    Args:
        margins: (...) Δ, its reward minus that of the other.
    Returns:
        (...) float64. Exactly ½ at 0; p(Δ) + p(−Δ) = 1. Written with e^−|x|, which cannot overflow.
    """
    x = np.asarray(margins, np.float64) / temperature
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def fit_temperature(margins: ArrayLike) -> float:
    """T that minimises the mean of −log σ(Δ / T) over comparisons.

    Searched on a grid of 400 values, 0.1 … 100 in equal ratios: the loss has one minimum in 1/T,
    and where the comparisons say nothing it lies at the end, T = 100, every win probability near ½.

    Args:
        margins: (P,) Δ, reward of the preferred response − that of the other.
    Raises:
        ValueError: there is no comparison.
    """
    deltas = np.asarray(margins, np.float64)
    if deltas.ndim != 1 or deltas.size == 0:
        raise ValueError(
            f"margins are of shape {deltas.shape}; a temperature needs at least one comparison."
        )
    grid = np.geomspace(*TEMPERATURES, 400)
    loss = np.logaddexp(0.0, -deltas[None, :] / grid[:, None]).mean(axis=1)  # (400,)
    return float(grid[int(np.argmin(loss))])


def fit_threshold(values: ArrayLike, errors: ArrayLike) -> float:
    """The threshold t at which calling `v < t` an error has the best F1 of the errors.

    F1 = 2·hits / (called + errors), among the thresholds that call some units and not all. Between
    two neighbouring values every t is as good; the middle is taken. Of several best ones the
    lowest, which calls the fewest units.

    Args:
        values: (N,) raw values of units; higher is better.
        errors: (N,) bool, True where the unit is an error.
    Raises:
        ValueError: a class is absent, or all values are equal.
    """
    v, wrong = np.asarray(values, np.float64), np.asarray(errors, bool)
    if v.shape != wrong.shape or v.ndim != 1:
        raise ValueError(f"values are {v.shape} and errors {wrong.shape}; both must be (N,).")
    if wrong.all() or not wrong.any() or np.ptp(v) == 0:
        raise ValueError(
            f"{int(wrong.sum())} of {len(v)} units are errors, their values differ by "
            f"{np.ptp(v) if len(v) else 0:g}; a threshold needs both classes and values that differ."
        )
    steps = np.unique(v)
    called = np.searchsorted(np.sort(v), steps[1:])  # units below each step but the first
    hits = np.searchsorted(np.sort(v[wrong]), steps[1:])
    best = int(np.argmax(2 * hits / (called + wrong.sum())))
    return float((steps[best] + steps[best + 1]) / 2)
