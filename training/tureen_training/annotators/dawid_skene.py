"""The true labels and every rater's errors, from the votes alone (Dawid & Skene 1979, Applied Statistics 28(1)).

    p(votes) = Π_i Σ_c p_c Π_k Π_l Θ_k[c, l]^n_ikl

crowd-kit has this too, without smoothing, on top of pandas, pyarrow and nltk (270 MB); the tests hold this EM
against its figures and against the paper's.

Legend: I items, R raters, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 1e-300  # in place of a probability of 0 inside a logarithm


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What the votes say when raters differ.

    posterior: probability of each label of each item. (I, C)
    prior: of the labels. (C,)
    confusion: of each rater, probability of the vote (last axis) given the true label. (R, C, C)
    log_likelihood: of the votes, in nats, after each step of EM.
    converged: whether the last step moved no posterior by more than the tolerance.
    """

    posterior: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    log_likelihood: tuple[float, ...]
    converged: bool

    @property
    def reliability(self) -> np.ndarray:
        """Probability that a rater's vote is the true label: Σ_c p_c Θ_k[c, c]. (R,)"""
        return np.einsum("c,rcc->r", self.prior, self.confusion)


def fit(
    counts: np.ndarray,
    *,
    smoothing: float = 2.0,
    max_steps: int = 1000,
    tolerance: float = 1e-6,
) -> DawidSkene:
    """Expectation–maximisation from the majority's shares.

        E: q_i(c) ∝ p_c Π_k Π_l Θ_k[c, l]^n_ikl
        M: p_c ∝ Σ_i q_i(c),   Θ_k[c, l] ∝ smoothing · Θ[c, l] + Σ_i q_i(c) n_ikl

    Θ without k is the confusion of all raters taken together.

    Args:
        counts: how often each rater gave each label to each item. (I, R, C)
        smoothing: votes that every rater is given for every true label, spread as all raters' votes are, so
            that one of few items is taken for an average rater and not for one who never errs; 0 is the
            paper's maximum likelihood.

    Raises:
        ValueError: an item without votes.
    """
    if smoothing < 0:
        raise ValueError(f"smoothing is {smoothing}; give at least 0")
    votes = counts.sum(axis=1)  # (I, C)
    if (votes.sum(axis=1) == 0).any():
        item = int(np.flatnonzero(votes.sum(axis=1) == 0)[0])
        raise ValueError(f"item {item} has no vote; leave such items out")
    posterior = votes / votes.sum(axis=1, keepdims=True)
    likelihoods: list[float] = []
    while True:
        prior, confusion = _maximise(posterior, counts, smoothing)
        joint = np.log(np.maximum(prior, _LEAST)) + np.einsum(
            "irl,rcl->ic", counts, np.log(np.maximum(confusion, _LEAST))
        )
        evidence = np.logaddexp.reduce(joint, axis=1, keepdims=True)
        updated = np.exp(joint - evidence)
        likelihoods.append(float(evidence.sum()))
        moved = float(np.abs(updated - posterior).max())
        posterior = updated
        if moved < tolerance or len(likelihoods) == max_steps:
            return DawidSkene(posterior, prior, confusion, tuple(likelihoods), moved < tolerance)


def _maximise(
    posterior: np.ndarray, counts: np.ndarray, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Prior (C,) and confusions (R, C, C)."""
    votes = np.einsum("ic,irl->rcl", posterior, counts)
    pooled = _rows(votes.sum(axis=0))
    return posterior.mean(axis=0), _rows(votes + smoothing * pooled)


def _rows(votes: np.ndarray) -> np.ndarray:
    """As probabilities of the last axis; even where there is no vote, which nobody may have had to give."""
    totals = votes.sum(axis=-1, keepdims=True)
    even = np.full(votes.shape, 1 / votes.shape[-1])
    return np.divide(votes, totals, out=even, where=totals > 0)
