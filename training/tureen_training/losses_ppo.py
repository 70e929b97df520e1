"""The losses of PPO and of replay, one a token: pure functions of tensors.

What is returned is not yet averaged: a minibatch may lie on several processes and in several forward passes, and its
mean is over all of them. Formulas: "The N+ Implementation Details of RLHF with PPO" (arXiv:2403.17031).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    """PPO's surrogate (Schulman et al., arXiv:1707.06347, eq. 7), negated.

        L_t = max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε)),   ρ = exp(log π_new − log π_old)

    Args:
        log_probs, old_log_probs, advantages: Shape: (B, R). clip: ε in (0, 1).

    Returns:
        Shape: (B, R)
    """
    ratio = (log_probs - old_log_probs).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Squared error, of which a step away from the old value by more than c gains nothing.

        L_t = ½ max((V − R)², (clip(V, V_old − c, V_old + c) − R)²)

    Args:
        values, old_values, returns: Shape: (B, R). clip: c > 0, in units of reward.

    Returns:
        Shape: (B, R)
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (near - returns).square()) / 2


def token_log_probs(logits: Tensor, token_ids: Tensor, temperature: float) -> Tensor:
    """log π of the tokens that were chosen, at the temperature they were sampled at.

    Args:
        logits: Shape: (B, R, V). token_ids: Shape: (B, R). temperature: above 0.

    Returns:
        Shape: (B, R), in fp32.
    """
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, token_ids[..., None])[..., 0]
    return chosen - scaled.logsumexp(-1)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """H = log Σ e^z − Σ p z of each token's distribution, in nats.

    Args:
        logits: Shape: (B, R, V). temperature: above 0.

    Returns:
        Shape: (B, R)
    """
    scaled = logits.float() / temperature
    return scaled.logsumexp(-1) - (scaled.softmax(-1) * scaled).sum(-1)


def imitation_loss(logits: Tensor, labels: Tensor, ignored: int = -100) -> Tensor:
    """−log π of each next token of a text: γ_ptx times its mean is the replay term of PPO-ptx (arXiv:2203.02155).

    Args:
        logits: Shape: (B, T, V). labels: the tokens themselves, `ignored` where one is not learnt. Shape: (B, T)

    Returns:
        Shape: (B, T − 1); 0 where the label is ignored.
    """
    return F.cross_entropy(
        logits[:, :-1].float().transpose(1, 2),
        labels[:, 1:],
        ignore_index=ignored,
        reduction="none",
    )
