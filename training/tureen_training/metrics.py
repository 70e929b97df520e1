"""Figures with intervals: accuracy of comparisons, AUROC and F1 of units, all resampled by prompt.

Every figure is computed from per-prompt material, because answers to one prompt are not independent; the
interval is the percentile bootstrap over prompts (2.5 % and 97.5 %).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number. n: comparisons or units. prompts: how many prompts they come from.
    baseline: the same measure of the best trivial predictor."""

    value: float
    low: float
    high: float
    n: int
    prompts: int
    baseline: float


Groups = Sequence[np.ndarray]  # one array a prompt


def bootstrap(
    groups: Groups,
    measure: Callable[[np.ndarray], float],
    *,
    baseline: float,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """`measure` of all rows, and its 95 % interval over prompts drawn with replacement.

    Args:
        groups: one array of rows a prompt; prompts without rows are left out.
        measure: rows -> figure; NaN where it is undefined (such resamples are left out).

    Raises:
        ValueError: there is nothing to measure.
    """
    groups = [group for group in groups if len(group)]
    if not groups:
        raise ValueError("nothing to measure: no prompt has a comparison or unit of this kind")
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(groups), len(groups))
        draws.append(measure(np.concatenate([groups[i] for i in chosen])))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    rows = np.concatenate(groups)
    return Figure(
        value=float(measure(rows)),
        low=float(low),
        high=float(high),
        n=len(rows),
        prompts=len(groups),
        baseline=baseline,
    )


def accuracy(margins: np.ndarray) -> float:
    """Share of comparisons won; a margin of exactly 0 counts half. margins: (P,)."""
    return float(np.mean(margins > 0) + 0.5 * np.mean(margins == 0))


def auroc(rows: np.ndarray) -> float:
    """Probability that a clean unit is valued above an error, ties half (Mann–Whitney U / (n₁n₀)).

    Args:
        rows: (N, 2): value, label (1 clean, 0 error).

    Returns:
        NaN where one class is absent.
    """
    values, labels = rows[:, 0], rows[:, 1] > 0.5
    clean, errors = int(labels.sum()), int((~labels).sum())
    if clean == 0 or errors == 0:
        return float("nan")
    ranks = _midranks(values)
    return float((ranks[labels].sum() - clean * (clean + 1) / 2) / (clean * errors))


def f1_error(rows: np.ndarray) -> float:
    """F1 of the error class, a unit being called an error where its value is below 0. rows as in `auroc`."""
    called, actual = rows[:, 0] < 0, rows[:, 1] < 0.5
    hits = int((called & actual).sum())
    total = int(called.sum() + actual.sum())
    return 2 * hits / total if total else 0.0


def f1_always_error(rows: np.ndarray) -> float:
    """F1 of calling every unit an error: 2p / (1 + p), p the share of errors."""
    share = float(np.mean(rows[:, 1] < 0.5))
    return 2 * share / (1 + share)


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, tied values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
