"""Figures with intervals and baselines: comparisons, units, probabilities; all resampled by prompt.

Every figure is computed from per-prompt material, because answers to one prompt are not independent; the
interval is the percentile bootstrap over prompts (2.5 % and 97.5 %).

Three kinds of rows:

    margins   (P,)    score of the preferred response − score of the other
    units     (N, 2)  value − threshold (below 0 is called an error), label (1 clean, 0 error)
    p         (P,)    probability given to the response that people preferred
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
BINS = 15
"""Of equal mass, for calibration figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    n: comparisons or units. prompts: how many prompts they come from.
    baselines: the same measure of trivial predictors, by name. baseline: of the best of them.
    """

    value: float
    low: float
    high: float
    n: int
    prompts: int
    baseline: float
    baselines: Mapping[str, float] = field(default_factory=dict)

    def interval(self) -> dict[str, float]:
        """As a report has it."""
        return {"value": self.value, "low": self.low, "high": self.high}


Groups = Sequence[np.ndarray]  # one array a prompt


def singly(values: np.ndarray) -> Groups:
    """Each number, or each row, as the array of a prompt of its own. values: (P,) or (P, N)."""
    return list(values.reshape(len(values), -1))


def bootstrap(
    groups: Groups,
    measure: Callable[[np.ndarray], float],
    *,
    baselines: Mapping[str, float],
    lower_is_better: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """`measure` of all rows, and its 95 % interval over prompts drawn with replacement.

    Args:
        groups: one array of rows a prompt; prompts without rows are left out.
        measure: rows -> figure; NaN where it is undefined (such resamples are left out).
        baselines: at least one.
        lower_is_better: an error measure. Such a one is greater on resamples than on fresh data (a bin
            that was drawn twice is off twice), so its interval is moved down by the bootstrap's own
            estimate of that bias, mean of the draws − value, and ends at 0.

    Raises:
        ValueError: there is nothing to measure.
    """
    found = bootstrap_all(
        groups,
        lambda rows: {"": measure(rows)},
        baselines={"": baselines},
        lower_is_better=lower_is_better,
        seed=seed,
        resamples=resamples,
    )
    return found[""]


def mean(
    groups: Groups, *, baselines: Mapping[str, float], lower_is_better: bool = False
) -> Figure:
    """The mean of all rows, which resampling does not make greater, so no interval is moved. groups: (N,) each."""
    figure = bootstrap(groups, lambda rows: float(rows.mean()), baselines=baselines)
    best = min if lower_is_better else max
    return replace(figure, baseline=best(baselines.values()))


def bootstrap_all(
    groups: Groups,
    measure: Callable[[np.ndarray], Mapping[str, float]],
    *,
    baselines: Mapping[str, Mapping[str, float]],
    lower_is_better: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Figure]:
    """Several figures of the same rows and the same resamples, by name; otherwise as `bootstrap`.

    Args:
        measure: rows -> name -> figure; of all rows it gives every name.
        baselines: name -> at least one.
    """
    groups = [group for group in groups if len(group)]
    if not groups:
        raise ValueError("nothing to measure: no prompt has a comparison or unit of this kind")
    rng = np.random.default_rng(seed)
    rows = np.concatenate(groups)
    starts = np.cumsum([0, *map(len, groups)])
    place = [np.arange(start, end) for start, end in pairwise(starts)]
    found = measure(rows)
    draws: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(resamples):
        chosen = rng.integers(0, len(groups), len(groups))
        drawn = chosen if len(groups) == len(rows) else np.concatenate([place[i] for i in chosen])
        measured = measure(rows[drawn])
        for name, own in draws.items():
            own.append(measured.get(name, np.nan))
    figures = {}
    for name, value in found.items():
        low, high = np.nanpercentile(draws[name], [2.5, 97.5])
        if lower_is_better:
            bias = float(np.nanmean(draws[name])) - value
            low, high = max(0.0, low - bias), high - bias
        best = min if lower_is_better else max
        figures[name] = Figure(
            value=float(value),
            low=float(low),
            high=float(high),
            n=len(rows),
            prompts=len(groups),
            baseline=best(baselines[name].values()),
            baselines=dict(baselines[name]),
        )
    return figures


# --- comparisons ---


def accuracy(margins: np.ndarray) -> float:
    """Share of comparisons won; a margin of exactly 0 counts half. margins: (P,)."""
    return float(np.mean(margins > 0) + 0.5 * np.mean(margins == 0))


def tie_rate(margins: np.ndarray) -> float:
    """Share of comparisons with a margin of exactly 0. margins: (P,)."""
    return float(np.mean(margins == 0))


# --- units ---


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
    """F1 of the error class, a unit being called an error where its value is below 0. rows: (N, 2)."""
    return _f1(rows[:, 0] < 0, rows[:, 1] < 0.5)


def f1_clean(rows: np.ndarray) -> float:
    """F1 of the clean class. rows: (N, 2)."""
    return _f1(rows[:, 0] >= 0, rows[:, 1] > 0.5)


def f1_macro(rows: np.ndarray) -> float:
    """Mean of the F1 of both classes. rows: (N, 2)."""
    return (f1_error(rows) + f1_clean(rows)) / 2


def balanced_accuracy(rows: np.ndarray) -> float:
    """½ (share of the errors called + share of the clean not called); NaN where a class is absent."""
    called, wrong = rows[:, 0] < 0, rows[:, 1] < 0.5
    if wrong.all() or not wrong.any():
        return float("nan")
    return float((called[wrong].mean() + (~called[~wrong]).mean()) / 2)


def all_one_class(rows: np.ndarray, measure: Callable[[np.ndarray], float]) -> dict[str, float]:
    """`measure` of the two predictors that call every unit an error, or none."""
    labels = rows[:, 1]
    return {
        name: measure(np.stack([np.full(len(rows), value), labels], axis=1))
        for name, value in (("all errors", -1.0), ("all clean", 1.0))
    }


def _f1(called: np.ndarray, actual: np.ndarray) -> float:
    hits = int((called & actual).sum())
    total = int(called.sum() + actual.sum())
    return 2 * hits / total if total else 0.0


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, tied values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


# --- probabilities ---


class Bin(NamedTuple):
    """Comparisons of similar confidence. confidence, accuracy: their means. n: how many."""

    confidence: float
    accuracy: float
    n: int


def reliability(p: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Confidence max(p, 1 − p) against accuracy, in bins of equal mass; p = ½ is right half the time.

    A bin begins where another P / bins comparisons are through, and equal confidences
    share a bin, whatever the order.

    Args:
        p: (P,) probability given to the preferred response.
    Returns:
        At most `bins`, none empty, by confidence.
    """
    confidence = np.maximum(p, 1 - p)
    right = np.where(p > 0.5, 1.0, np.where(p < 0.5, 0.0, 0.5))
    starts = np.sort(confidence)[np.arange(1, bins) * len(p) // bins]
    place = np.searchsorted(np.unique(starts), confidence, side="right")  # (P,)
    n = np.bincount(place)
    sums = np.bincount(place, confidence), np.bincount(place, right)
    return [
        Bin(of_confidence / count, of_right / count, count)
        for of_confidence, of_right, count in zip(*(s.tolist() for s in (*sums, n)), strict=True)
        if count
    ]


def ece(p: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: Σ_b n_b/P · |accuracy_b − confidence_b|. p: (P,) as in `reliability`.

    Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599. Above 0 even for perfect probabilities, by
    about √(bins / P) · 0.4: small samples look worse calibrated than they are.
    """
    return sum(b.n * abs(b.accuracy - b.confidence) for b in reliability(p, bins)) / len(p)


def brier(p: np.ndarray) -> float:
    """Mean (p − 1)², 1 being what happened. p: (P,). Brier 1950."""
    return float(np.mean((1 - p) ** 2))
