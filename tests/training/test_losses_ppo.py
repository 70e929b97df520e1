import math

import pytest
import torch
from torch import tensor

from tureen_training.losses_ppo import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    imitation_loss,
    token_log_probs,
)


def test_the_policy_loss_by_hand():
    """Ratios 1.5, 0.5 and 1.1 with ε = 0.2, for an advantage of 2 and of −2.

    A = 2: max(−3, −2.4), max(−1, −1.6), −2.2.   A = −2: max(3, 2.4), max(1, 1.6), 2.2.
    """
    ratios = tensor([[1.5, 0.5, 1.1]])
    new, old = ratios.log() - 1, torch.full((1, 3), -1.0)
    gained = clipped_policy_loss(new, old, torch.full((1, 3), 2.0), 0.2)
    torch.testing.assert_close(gained, tensor([[-2.4, -1.0, -2.2]]))
    lost = clipped_policy_loss(new, old, torch.full((1, 3), -2.0), 0.2)
    torch.testing.assert_close(lost, tensor([[3.0, 1.6, 2.2]]))


def test_what_is_clipped_has_no_gradient_and_at_the_start_it_is_the_policy_gradient():
    new = tensor([[math.log(1.5), 0.0]], requires_grad=True)
    clipped_policy_loss(new, torch.zeros(1, 2), tensor([[2.0, 3.0]]), 0.2).sum().backward()
    assert new.grad is not None
    assert new.grad.tolist() == [[0.0, -3.0]]


def test_the_value_loss_by_hand():
    """Old value 0, c = 0.2. V = 1, R = 1: clipped 0.2, so ½ · 0.8². V = 0.1, R = 1: ½ · 0.9².
    V = 1, R = −1: the worse of ½ · 2² and ½ · 1.2²."""
    loss = clipped_value_loss(
        tensor([[1.0, 0.1, 1.0]]), torch.zeros(1, 3), tensor([[1.0, 1.0, -1.0]]), 0.2
    )
    torch.testing.assert_close(loss, tensor([[0.32, 0.405, 2.0]]))


def test_log_probs_are_at_the_temperature():
    """Logits log 1, log 2, log 5 at T = 1: 1/8, 2/8, 5/8; at T = ½ their squares: 1/30, 4/30, 25/30."""
    logits = tensor([[1.0, 2.0, 5.0]]).log()[None].expand(1, 3, 3)
    ids = tensor([[0, 1, 2]])
    torch.testing.assert_close(
        token_log_probs(logits, ids, 1.0), tensor([[1 / 8, 2 / 8, 5 / 8]]).log()
    )
    torch.testing.assert_close(
        token_log_probs(logits, ids, 0.5), tensor([[1 / 30, 4 / 30, 25 / 30]]).log()
    )


def test_entropy_by_hand():
    logits = tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, -1e4, -1e4, -1e4], [3.0, 3.0, -1e4, -1e4]]])
    torch.testing.assert_close(
        entropy(logits, 1.0), tensor([[math.log(4), 0.0, math.log(2)]]), atol=1e-6, rtol=1e-6
    )
    half = tensor([[[0.0, math.log(3)]]])  # at T = ½: 1/10, 9/10
    expected = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert entropy(half, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_imitation_is_of_the_next_token():
    logits = tensor([[[1.0, 3.0], [2.0, 2.0], [9.0, 1.0]]]).log()
    loss = imitation_loss(logits, tensor([[0, 1, 0]]))
    torch.testing.assert_close(loss, -tensor([[3 / 4, 1 / 2]]).log())
    ignored = imitation_loss(logits, tensor([[0, -100, 0]]))
    torch.testing.assert_close(ignored, tensor([[0.0, math.log(2)]]))
