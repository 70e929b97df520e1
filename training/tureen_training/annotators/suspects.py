"""Which labels are likely wrong, by the vote of several models (Secrets of RLHF, Part II, arXiv:2401.06080).

Pairs are ranked by the mean margin that the members give the response that the rater preferred. Models learn the
labels they are trained on, so the margins should come from models that did not see them: `cross_fit` gives each
pair margins learnt on other prompts. The ranking is a list for people to look at; nothing is relabelled.

Legend: M members, P pairs, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Of every pair, in the order of the data.

    margin: mean over members, each scaled to a root mean square of 1 so that none drowns the others. (P,)
    spread: standard deviation of the same. (P,)
    against: how many members prefer the other response. (P,)
    order: positions of the pairs, the most suspect first. (P,)
    """

    margin: np.ndarray
    spread: np.ndarray
    against: np.ndarray
    order: np.ndarray


def suspicion(margins: np.ndarray) -> Suspicion:
    """Ranks pairs by the members' vote.

    Args:
        margins: v(chosen) − v(rejected) by each member. (M, P)

    Raises:
        ValueError: no pair, a number that is not finite, or a member that finds all responses alike.
    """
    if margins.ndim != 2 or 0 in margins.shape:
        raise ValueError(f"margins must have shape (M >= 1, P >= 1), got {margins.shape}")
    if not np.isfinite(margins).all():
        raise ValueError("a margin is not finite; leave out pairs that a member could not score")
    scale = np.sqrt((margins**2).mean(axis=1, keepdims=True))
    if (scale == 0).any():
        member = int(np.flatnonzero(scale == 0)[0])
        raise ValueError(f"member {member} gives every pair a margin of 0; it cannot vote")
    scaled = margins / scale
    mean = scaled.mean(axis=0)
    return Suspicion(
        margin=mean,
        spread=scaled.std(axis=0),
        against=(margins < 0).sum(axis=0),
        order=np.argsort(mean, kind="stable"),
    )


def cross_fit(
    differences: np.ndarray,
    groups: np.ndarray,
    *,
    folds: int = 5,
    members: int = 10,
    inverse_penalty: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Margins of pairs by logistic regressions that did not see their prompts.

    For each fold of the prompts, each member learns on its own bag of the other folds' prompts that the chosen
    response is the better one (Bradley–Terry on a linear value: logistic regression of the difference, without
    intercept).

    Args:
        differences: features of the chosen response − those of the rejected. (P, D)
        groups: a number for each prompt. (P,)
        inverse_penalty: C of scikit-learn, on features scaled to a root mean square of 1.

    Returns:
        (M, P)

    Raises:
        ValueError: fewer prompts than folds, or fewer than 2 folds.
    """
    prompts = np.unique(groups)
    if not 2 <= folds <= len(prompts):
        raise ValueError(f"folds is {folds}; give from 2 to the number of prompts, {len(prompts)}")
    scale = np.sqrt((differences**2).mean(axis=0))
    x = differences / np.where(scale > 0, scale, 1.0)
    margins = np.empty((members, len(x)))
    rng = np.random.default_rng(seed)
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(x, groups=groups):
        known = np.unique(groups[train])
        for member in range(members):
            bag = np.bincount(rng.integers(0, len(known), len(known)), minlength=len(known))
            weight = bag[np.searchsorted(known, groups[train])]
            own = train[weight > 0]
            both_ways = np.concatenate([x[own], -x[own]])
            wins = np.repeat([1, 0], len(own))
            model = LogisticRegression(C=inverse_penalty, fit_intercept=False, max_iter=1000)
            model.fit(both_ways, wins, sample_weight=np.tile(weight[weight > 0], 2))
            margins[member, test] = x[test] @ model.coef_[0]
    return margins
