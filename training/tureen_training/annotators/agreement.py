"""How far people agree beyond chance, and what that leaves for a model to reach.

Every measure but Cohen's reads counts, one row an item: how often each label was given. (I, C)
A measure that the data leaves undefined, all votes being alike, is NaN and never a number.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Metric = Literal["nominal", "ordinal", "interval"]
Weights = Literal["linear", "quadratic"]


def cohen_kappa(
    first: np.ndarray, second: np.ndarray, labels: int, weights: Weights | None = None
) -> float:
    """Agreement of two raters beyond chance (Cohen 1960; weighted: Cohen 1968).

        κ = (p_o − p_e) / (1 − p_e) = 1 − Σ w_ij o_ij / Σ w_ij e_ij

    o are the observed, e the expected counts of label i by the one and j by the other; w_ij is 1 where i ≠ j, or
    |i − j|, or its square.

    Args:
        first, second: label codes of the same items by either rater. (I,)
        labels: how many labels there are; their codes 0 … labels − 1 are the scale of `weights`.

    Returns:
        NaN where both give one and the same label throughout, or have no item in common.
    """
    if first.shape != second.shape:
        raise ValueError(f"two raters of the same items, got {first.shape} and {second.shape}")
    if len(first) == 0 or (np.unique(np.concatenate([first, second])).size == 1):
        return math.nan
    table = np.bincount(first * labels + second, minlength=labels**2).reshape(labels, labels)
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    apart = np.abs(np.subtract.outer(np.arange(labels), np.arange(labels)))  # (C, C)
    cost = {None: apart > 0, "linear": apart, "quadratic": apart**2}[weights]
    return float(1 - (cost * table).sum() / (cost * chance).sum())


def fleiss_kappa(counts: np.ndarray) -> float:
    """Agreement of n votes an item beyond chance, whoever gave them (Fleiss 1971).

        P_i = Σ_c n_ic (n_ic − 1) / (n (n − 1)),   P_e = Σ_c p_c²,   κ = (mean P_i − P_e) / (1 − P_e)

    Args:
        counts: (I, C), every row with the same sum n ≥ 2.

    Raises:
        ValueError: rows differ in their number of votes; Krippendorff's α takes those.
    """
    votes = counts.sum(axis=1)
    n = int(votes[0]) if len(votes) else 0
    if n < 2 or (votes != n).any():
        raise ValueError(
            "Fleiss' kappa needs the same number of votes, at least 2, for every item; "
            f"got {sorted(set(votes.tolist()))}. Use krippendorff_alpha where they differ."
        )
    observed = (counts * (counts - 1)).sum() / (n * (n - 1) * len(counts))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return float((observed - expected) / (1 - expected)) if expected < 1 else math.nan


def krippendorff_alpha(
    counts: np.ndarray, metric: Metric = "nominal", values: np.ndarray | None = None
) -> float:
    """Reliability for any number of votes an item (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Items with fewer than two votes say nothing and are left out.

        α = 1 − D_o / D_e,   D = Σ_ck o_ck δ²(c, k)  over the observed or the expected coincidences

        nominal   δ² = 1 where c ≠ k
        ordinal   δ² = (Σ_{g = c … k} n_g − (n_c + n_k) / 2)²
        interval  δ² = (c − k)²

    Args:
        counts: (I, C), the labels in the order of their scale.
        values: of the labels, for `interval`; 0 … C − 1 where None. (C,)
    """
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return math.nan
    votes = counts.sum(axis=1, keepdims=True)
    # every ordered pair of votes within an item, weighted by 1 / (m − 1), so a vote weighs 1 in all
    observed = (counts / (votes - 1)).T @ counts
    observed -= np.diag((counts / (votes - 1)).sum(axis=0))
    totals = counts.sum(axis=0)  # (C,)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    distance = _squared_distance(totals, metric, values)
    chance = (expected * distance).sum()
    return float(1 - (observed * distance).sum() / chance) if chance > 0 else math.nan


def _squared_distance(totals: np.ndarray, metric: Metric, values: np.ndarray | None) -> np.ndarray:
    if metric == "nominal":
        return 1.0 - np.eye(len(totals))
    if metric == "ordinal":
        # the distance between the middles of two labels' ranks: the ordinal sum, written as a difference
        values = np.cumsum(totals) - totals / 2
    elif metric != "interval":
        raise ValueError(f"metric is {metric!r}; known: nominal, ordinal, interval")
    elif values is None:
        values = np.arange(len(totals), dtype=float)
    return np.subtract.outer(values, values) ** 2


def observed_agreement(counts: np.ndarray) -> float:
    """Share of the pairs of votes within an item that are alike. counts: (I, C). NaN without any pair."""
    votes = counts.sum(axis=1)
    pairs = int((votes * (votes - 1)).sum())
    return float((counts * (counts - 1)).sum() / pairs) if pairs else math.nan


def human_ceiling(agreement: float) -> float:
    """Accuracy against one rater's labels of whoever knows the truth.

        p = (1 + √(2a − 1)) / 2

    Two equally good, independent raters of two labels are each right with probability p when they agree with
    probability a = p² + (1 − p)². No model exceeds p against single labels but by learning the rater.

    Returns:
        NaN where a < ½: such raters are not of this kind.
    """
    return (1 + math.sqrt(2 * agreement - 1)) / 2 if agreement >= 0.5 else math.nan
