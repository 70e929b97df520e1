"""How far today's rewards are from those the model was calibrated on.

    PSI = Σ_b (a_b − e_b) · ln(a_b / e_b)

over bins b that each held about a tenth of the reference set: a_b is the share of today's rewards,
e_b that of the reference's (population stability index; the symmetric Kullback–Leibler divergence
of the binned distributions). By custom below 0.1 is no drift and above 0.25 is a large one. Half a
reward is added to every bin of both, so that an empty bin does not make it infinite.

Where nothing has drifted n rewards against m give about (B − 1)(1/n + 1/m): 0.05 for 200 against
many in B = 10 bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BINS = 10
_HALF = 0.5  # of a reward, in every bin


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReference:
    """Rewards on the reference set, with the model's own heads, weights and mean aggregation.

    edges: (B − 1) ascending; bin b holds edges[b − 1] < reward <= edges[b]. counts: (B,) rewards in
    each. member_variance: mean over the set of the population variance of the members' rewards;
    None where there are no members to differ.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    member_variance: float | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1 or min(self.counts) < 0 or not sum(self.counts):
            raise ValueError(
                f"counts are {self.counts} for {len(self.edges)} edges; give one more than edges, "
                "none negative, not all 0."
            )
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"edges are {self.edges}; each must be above the one before.")
        variance = self.member_variance
        if variance is not None and not (math.isfinite(variance) and variance > 0):
            raise ValueError(
                f"member_variance is {variance}; it must be finite and above 0, or null where "
                "members do not differ."
            )


def reward_reference(rewards: ArrayLike, members: ArrayLike | None = None) -> RewardReference:
    """What `drift` compares with; stored in the manifest by whoever calibrates a model.

    Args:
        rewards: (B,) of the reference set. members: (M, B) the members' rewards for the same, where
            there are several.
    Raises:
        ValueError: fewer rewards than bins, or one that is not finite.
    """
    values = np.asarray(rewards, np.float64)
    if values.ndim != 1 or values.size < BINS or not np.isfinite(values).all():
        raise ValueError(
            f"rewards are {values.size} of shape {values.shape}; a reference needs a list of at "
            f"least {BINS} finite ones."
        )
    deciles = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges = np.unique(deciles[deciles < values.max()])  # equal rewards share a bin
    variance = None
    if members is not None and len(of_members := np.asarray(members, np.float64)) > 1:
        variance = float(of_members.var(axis=0).mean()) or None
    return RewardReference(
        edges=tuple(edges.tolist()),
        counts=tuple(_counts(values, edges).tolist()),
        member_variance=variance,
    )


def drift(rewards: ArrayLike, reference: RewardReference) -> float:
    """PSI of (B,) rewards against the reference; B > 0."""
    values = np.asarray(rewards, np.float64)
    today = _shares(_counts(values, np.asarray(reference.edges)))
    then = _shares(np.asarray(reference.counts))
    return float(((today - then) * np.log(today / then)).sum())


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def _shares(counts: np.ndarray) -> np.ndarray:
    return (counts + _HALF) / (counts.sum() + _HALF * len(counts))
