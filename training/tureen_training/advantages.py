"""From rewards to advantages: pure functions of tensors.

Legend: B responses, R tokens of the longest. A mask is True where a token of a response counts; tokens of a response
stand at the left, so that padding is behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sum over all processes; of one process the identity."""


def alone(total: Tensor) -> Tensor:
    """`Reduce` of a run with one process."""
    return total


def masked_mean(values: Tensor, mask: Tensor, reduce: Reduce = alone) -> Tensor:
    """Mean of the elements that count, over all processes; 0 where none does.

    Args:
        values, mask: of one shape.
    """
    sums = reduce(torch.stack([_kept(values, mask).sum(), mask.sum().to(values.dtype)]))
    return sums[0] / sums[1].clamp_min(1)


def whiten(
    values: Tensor, mask: Tensor, *, shift_mean: bool = True, reduce: Reduce = alone
) -> Tensor:
    """Values of variance 1, and of mean 0 unless `shift_mean` is False, which keeps the mean.

        w = (x − mean) · rsqrt(var + 1e-8)  [+ mean]

    Mean and population variance are of the elements that count on all processes: whitening each process apart makes
    a run depend on their number. "The N+ Implementation Details of RLHF with PPO" (arXiv:2403.17031); Fine-Grained
    RLHF multiplies by rsqrt(std), which leaves a standard deviation of √std.

    Args:
        values, mask: of one shape.

    Returns:
        Of the same shape; 0 where nothing counts.
    """
    mean = masked_mean(values, mask, reduce)
    variance = masked_mean((values - mean).square(), mask, reduce)
    white = (values - mean) * torch.rsqrt(variance + 1e-8)
    return _kept(white if shift_mean else white + mean, mask)


def at_last_token(amounts: Tensor, mask: Tensor) -> Tensor:
    """One amount a response, put at its last token: that of the end of text, if it ended.

    Args:
        amounts: Shape: (B,)
        mask: Shape: (B, R)

    Returns:
        Shape: (B, R); a response without tokens has room for nothing and gets nothing.
    """
    tokens = torch.arange(mask.shape[1], device=mask.device)
    last = (tokens == mask.sum(1, keepdim=True) - 1) & mask
    return torch.where(last, amounts[:, None], 0.0)


def end_of_text_penalty(ended: Tensor, mask: Tensor, penalty: float) -> Tensor:
    """−penalty at the last token of each response that ran into the limit of tokens, 0 elsewhere.

    The score is lowered and not replaced, so that among unended responses the better one is still the better
    ("missing_eos_penalty" of TRL's PPO).

    Args:
        ended: True where the policy ended its response. Shape: (B,)
        mask: Shape: (B, R)
        penalty: at least 0, in units of reward.
    """
    return at_last_token(-penalty * (~ended).to(torch.get_default_dtype()), mask)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438, eq. 16) of finished responses.

        δ_t = r_t + γ V_{t+1} − V_t;   A_t = δ_t + γ λ A_{t+1};   returns = A + V

    V is 0 after the last token, also where a response ran into the limit: the task is to respond within it. λ = 1
    is the discounted sum of rewards minus V_t, λ = 0 the one-step error δ_t.

    Args:
        rewards: r. Shape: (B, R)
        values: V_t, expected before token t is chosen. Shape: (B, R)
        mask: Shape: (B, R)
        discount: γ in [0, 1]. trace: λ in [0, 1].

    Returns:
        Advantages and returns, 0 where the mask is False. Shape: (B, R) each.
    """
    rewards, values = _kept(rewards, mask), _kept(values, mask)
    advantages = torch.zeros_like(values)
    next_advantage = next_value = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + discount * next_value - values[:, t]
        next_advantage = (delta + discount * trace * next_advantage) * mask[:, t]
        next_value = values[:, t]
        advantages[:, t] = next_advantage
    return advantages, _kept(advantages + values, mask)


def explained_variance(
    values: Tensor, returns: Tensor, mask: Tensor, reduce: Reduce = alone
) -> float | None:
    """1 − Var(returns − values) / Var(returns) of the elements that count; None where returns do not vary.

    1 is a perfect value function, 0 no better than a constant, below 0 worse than that.
    """
    mean = masked_mean(returns, mask, reduce)
    variance = masked_mean((returns - mean).square(), mask, reduce)
    if variance <= 0:
        return None
    errors = returns - values
    bias = masked_mean(errors, mask, reduce)
    left = masked_mean((errors - bias).square(), mask, reduce)
    return float(1 - left / variance)


def _kept(values: Tensor, mask: Tensor) -> Tensor:
    """0 where the mask is False, whatever stands there: a product would keep a NaN."""
    return torch.where(mask, values, 0.0)
