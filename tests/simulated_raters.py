"""Raters of known reliability."""

import numpy as np


def one_coin(
    reliability: np.ndarray, *, items: int, labels: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """True labels (I,) and counts (I, R, C): each rater is right with its reliability, else anything else."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, items)
    counts = np.zeros((items, len(reliability), labels), dtype=np.int64)
    for rater, eta in enumerate(reliability):
        right = rng.random(items) < eta
        other = (truth + rng.integers(1, labels, items)) % labels
        counts[np.arange(items), rater, np.where(right, truth, other)] = 1
    return truth, counts


def comparisons(
    values: np.ndarray, reliability: np.ndarray, *, pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chosen, rejected, rater of each pair (P,): Bradley–Terry by the values, turned round with 1 − η."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(values), pairs)
    second = (first + rng.integers(1, len(values), pairs)) % len(values)
    rater = rng.integers(0, len(reliability), pairs)
    better = rng.random(pairs) < 1 / (1 + np.exp(values[second] - values[first]))
    honest = rng.random(pairs) < reliability[rater]
    wins = better == honest
    return np.where(wins, first, second), np.where(wins, second, first), rater
