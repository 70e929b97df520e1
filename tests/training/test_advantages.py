import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from tureen_training.advantages import (
    at_last_token,
    end_of_text_penalty,
    explained_variance,
    gae,
    masked_mean,
    whiten,
)

NAN = math.nan
MASK = tensor([[True, True, True], [True, True, False], [True, False, False]])


def test_the_mean_is_of_what_counts():
    values = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, NAN], [9.0, NAN, NAN]])
    assert masked_mean(values, MASK).item() == 4.0  # 24 / 6
    assert masked_mean(values, torch.zeros_like(MASK)).item() == 0.0


def test_whitening_divides_by_the_standard_deviation():
    """1, 3, 5, 3, 1, 5: mean 3, population variance 16 / 6."""
    values = tensor([[1.0, 3.0, 5.0], [3.0, 1.0, NAN], [5.0, NAN, NAN]])
    std = math.sqrt(16 / 6)
    expected = tensor([[-2 / std, 0, 2 / std], [0, -2 / std, 0], [2 / std, 0, 0]])
    torch.testing.assert_close(whiten(values, MASK), expected)
    kept = tensor([[3 - 2 / std, 3, 3 + 2 / std], [3, 3 - 2 / std, 0], [3 + 2 / std, 0, 0]])
    torch.testing.assert_close(whiten(values, MASK, shift_mean=False), kept)


@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_what_is_white_has_variance_one_whatever_it_had(scale: float, seed: int):
    values = scale * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4]])
    white = whiten(values, mask)[mask]
    assert white.mean().item() == pytest.approx(0, abs=1e-5)
    assert white.var(correction=0).item() == pytest.approx(1, rel=1e-3)


def test_whitening_over_two_processes_is_whitening_all():
    """Each process has its row; what they exchange is the sums of both."""
    rows = tensor([[1.0, 2.0, 6.0], [0.0, -3.0, NAN]])
    mask = tensor([[True, True, True], [True, True, False]])
    whole = whiten(rows, mask)
    mean, variance = 6 / 5, 50 / 5 - (6 / 5) ** 2
    sums = iter([tensor([6.0, 5.0]), tensor([5 * variance, 5.0])])
    torch.testing.assert_close(whiten(rows[:1], mask[:1], reduce=lambda _: next(sums)), whole[:1])
    assert whole[0, 0].item() == pytest.approx((1 - mean) / math.sqrt(variance))


def test_a_score_falls_on_the_last_token():
    placed = at_last_token(tensor([1.0, -2.0, 3.0]), MASK)
    assert placed.tolist() == [[0, 0, 1], [0, -2, 0], [3, 0, 0]]
    assert at_last_token(tensor([5.0]), tensor([[False, False]])).tolist() == [[0, 0]]


def test_only_unended_responses_are_penalised():
    placed = end_of_text_penalty(tensor([False, True, False]), MASK, 0.5)
    assert placed.tolist() == [[0, 0, -0.5], [0, 0, 0], [-0.5, 0, 0]]


def test_gae_by_hand():
    """γ = 0.5, λ = 0.5.

    Row 0: δ₂ = 4 − 3 = 1; δ₁ = 0 + 0.5·3 − 2 = −0.5, A₁ = −0.5 + 0.25·1 = −0.25;
           δ₀ = 1 + 0.5·2 − 1 = 1, A₀ = 1 − 0.25·0.25 = 0.9375.
    Row 1: δ₁ = 2 − 1 = 1; δ₀ = 0 + 0.5·1 − 4 = −3.5, A₀ = −3.5 + 0.25 = −3.25.  Row 2: δ₀ = 1 − 0.5.
    """
    rewards = tensor([[1.0, 0.0, 4.0], [0.0, 2.0, 9.0], [1.0, 9.0, NAN]])
    values = tensor([[1.0, 2.0, 3.0], [4.0, 1.0, 7.0], [0.5, NAN, 7.0]])
    advantages, returns = gae(rewards, values, MASK, discount=0.5, trace=0.5)
    expected = tensor([[0.9375, -0.25, 1.0], [-3.25, 1.0, 0.0], [0.5, 0.0, 0.0]])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(
        returns, tensor([[1.9375, 1.75, 4.0], [0.75, 2.0, 0.0], [1.0, 0.0, 0.0]])
    )


def test_gae_at_both_ends():
    """λ = 1 is the reward to come minus the value, λ = 0 the one-step error."""
    rewards, values = tensor([[1.0, 2.0, 3.0]]), tensor([[0.5, 1.0, -1.0]])
    mask = torch.ones_like(rewards, dtype=torch.bool)
    to_come, _ = gae(rewards, values, mask, discount=1, trace=1)
    torch.testing.assert_close(to_come, tensor([[6 - 0.5, 5 - 1.0, 3 + 1.0]]))
    one_step, _ = gae(rewards, values, mask, discount=1, trace=0)
    torch.testing.assert_close(one_step, tensor([[1 + 1.0 - 0.5, 2 - 1.0 - 1.0, 3 + 1.0]]))


def test_explained_variance_by_hand():
    """Returns 1, 3, 5, 3, 1, 5 vary by 16/6; errors 0, 0, 2, 0, 0, −2 by 8/6."""
    returns = tensor([[1.0, 3.0, 5.0], [3.0, 1.0, NAN], [5.0, NAN, NAN]])
    values = tensor([[1.0, 3.0, 3.0], [3.0, 1.0, 0.0], [7.0, 0.0, 0.0]])
    assert explained_variance(values, returns, MASK) == pytest.approx(0.5)
    assert explained_variance(values, torch.ones_like(returns), MASK) is None
