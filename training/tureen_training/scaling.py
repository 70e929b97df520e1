"""How far gold follows a policy that climbs a proxy, as a law of the distance d = √KL(policy ‖ start).

    R(d) = d (α − β log d)      reinforcement learning, R(0) = 0; the greater β is, the sooner gold turns over

Gao, Schulman and Hilton 2022, Scaling Laws for Reward Model Overoptimization, arXiv:2210.10760. Of best-of-n they find
d (α − β d) instead, and it spends far less KL: never compare the two at one distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy


@dataclass(frozen=True, slots=True)
class Law:
    """alpha, beta: in units of gold per √nat."""

    alpha: float
    beta: float

    def at(self, d: np.ndarray) -> np.ndarray:
        """Gold at each distance; 0 at 0. d: (L,)"""
        return self.alpha * d - self.beta * xlogy(d, d)

    @property
    def peak(self) -> float | None:
        """Where gold is highest, exp(α/β − 1); it is worth β times that. None where it never turns over."""
        return math.exp(self.alpha / self.beta - 1) if self.beta > 0 else None


def fitted(d: np.ndarray, gold: np.ndarray) -> Law:
    """Least squares. d: (L,) distances, two of them different and above 0. gold: (L,), 0 at the start."""
    basis = np.stack([d, -xlogy(d, d)], axis=1)
    (alpha, beta), _, rank, _ = np.linalg.lstsq(basis, gold)
    if rank < 2:
        raise ValueError(
            f"a law of two numbers needs two distances above 0; given {np.unique(d).tolist()}"
        )
    return Law(float(alpha), float(beta))


def held_out(d: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """R² on every second point of what is fitted to the others: of the law, and of a straight line.

    The line has an intercept, so both have two numbers to fit. d, gold: (L,)
    """
    seen, tested = slice(0, None, 2), slice(1, None, 2)
    slope, intercept = np.polyfit(d[seen], gold[seen], 1)
    return {
        "law": r_squared(gold[tested], fitted(d[seen], gold[seen]).at(d[tested])),
        "line": r_squared(gold[tested], slope * d[tested] + intercept),
    }


def r_squared(actual: np.ndarray, predicted: np.ndarray) -> float:
    """1 − Σ (actual − predicted)² / Σ (actual − mean)². (L,) each."""
    spread = float(np.square(actual - actual.mean()).sum())
    return 1 - float(np.square(actual - predicted).sum()) / spread
