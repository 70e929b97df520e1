"""The losses of RRHF (Yuan et al., arXiv:2304.05302): pure functions of tensors.

    p_i = Σ_t log π(y_i,t | x, y_i,<t) / |y_i|
    L_rank = Σ_{r_i < r_j} max(0, p_i − p_j)        no margin
    L_best = −Σ_t log π(y*_t | x, y*_<t)             y* the response of the highest reward
    L = L_rank + L_best, of one prompt

The authors' code is right for one prompt a batch alone, and divides L_best by the padded length. Here rows of several
prompts stand in one batch: a pair is two responses to one prompt, and padding counts nowhere.

Legend: B responses of all prompts, R tokens of the longest. A mask is True where a token of a response counts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def mean_log_probs(log_probs: Tensor, mask: Tensor) -> Tensor:
    """p: the log-probability of each response, divided by its own number of tokens.

    Args:
        log_probs, mask: Shape: (B, R); every response has a token.

    Returns:
        Shape: (B,)
    """
    return sequence_log_probs(log_probs, mask) / mask.sum(1)


def sequence_log_probs(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Σ_t log π of each response. Shape: (B, R) -> (B,)"""
    return torch.where(mask, log_probs, 0.0).sum(1)


class RankingLoss(NamedTuple):
    """total: Σ over the pairs. pairs: how many rewards tell apart. misordered: of them, those with p_i > p_j."""

    total: Tensor
    pairs: int
    misordered: int


def ranking_loss(means: Tensor, rewards: Tensor, prompts: Tensor) -> RankingLoss:
    """L_rank, summed over all prompts of the batch. Responses of one reward are no pair.

    Args:
        means: p. Shape: (B,)
        rewards: r, of responses that have one. Shape: (B,)
        prompts: whose response a row is; only equal numbers are compared. Shape: (B,)
    """
    worse = (rewards[:, None] < rewards[None, :]) & (prompts[:, None] == prompts[None, :])
    gaps = (means[:, None] - means[None, :])[worse]  # of i worse than j: p_i − p_j
    return RankingLoss(gaps.clamp_min(0).sum(), gaps.numel(), int((gaps > 0).sum()))


def best_response_loss(totals: Tensor, rewards: Tensor, prompts: Tensor) -> Tensor:
    """L_best, summed over all prompts; where several share the highest reward, their mean.

    Args:
        totals: Σ_t log π. Shape: (B,)
        rewards, prompts: as of `ranking_loss`.
    """
    same = prompts[:, None] == prompts[None, :]
    highest = torch.where(same, rewards[None, :], -torch.inf).amax(1)
    best = rewards == highest
    sharing = (same & best[None, :]).sum(1)
    return -torch.where(best, totals / sharing, 0.0).sum()
