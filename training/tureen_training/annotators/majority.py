"""One soft label an item: by majority, and by votes weighed with the reliability of who gave them."""

from __future__ import annotations

import numpy as np


def majority(counts: np.ndarray) -> np.ndarray:
    """Each label's share of the votes. counts: (I, R, C). Returns (I, C); NaN for an item without votes."""
    votes = counts.sum(axis=1)
    totals = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, totals, out=np.full(votes.shape, np.nan), where=totals > 0)


def reliability_weighted(
    counts: np.ndarray, reliability: np.ndarray, prior: np.ndarray | None = None
) -> np.ndarray:
    """Probability of each label when rater k is right with probability η_k and else picks any other label.

        q_i(c) ∝ p_c Π_k η_k^n_ikc · ((1 − η_k) / (C − 1))^(n_ik − n_ikc)

    With two labels a vote weighs log η_k / (1 − η_k): 0 for a rater who tosses a coin, negative for one who
    says the opposite.

    Args:
        counts: (I, R, C). reliability: η, each strictly between 0 and 1. (R,)
        prior: of the labels; uniform where None. (C,)

    Returns:
        (I, C), rows adding up to 1; an item without votes keeps the prior.
    """
    if not ((reliability > 0) & (reliability < 1)).all():
        raise ValueError(f"a reliability lies strictly between 0 and 1, got {reliability.tolist()}")
    labels = counts.shape[2]
    right, wrong = np.log(reliability), np.log1p(-reliability) - np.log(labels - 1)
    logs = np.einsum("irc,r->ic", counts, right - wrong)  # Π_k wrong_k^n_ik is the same for every c
    if prior is not None:
        logs = logs + np.log(prior)
    shifted = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def decided(posterior: np.ndarray) -> np.ndarray:
    """The most probable label of each item, or −1 where several share the first place. (I, C) -> (I,)"""
    best = posterior.max(axis=1, keepdims=True)
    alone = np.isclose(posterior, best).sum(axis=1) == 1
    return np.where(alone, posterior.argmax(axis=1), -1)
