import pytest
import torch

from tureen_training.losses_rrhf import (
    best_response_loss,
    mean_log_probs,
    ranking_loss,
    sequence_log_probs,
)

LOG_PROBS = torch.tensor([[-1.0, -3.0, 9.0], [-0.5, -0.5, -2.0], [-4.0, 9.0, 9.0]])
MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])


def test_each_response_is_divided_by_its_own_length():
    """−4 of 2 tokens, −3 of 3, −4 of 1; what stands in the padding counts nowhere."""
    assert sequence_log_probs(LOG_PROBS, MASK).tolist() == [-4.0, -3.0, -4.0]
    assert mean_log_probs(LOG_PROBS, MASK).tolist() == [-2.0, -1.0, -4.0]


def test_ranking_of_three_by_hand():
    """Worse and better: 1 and 0, −1 + 2 = 1; 1 and 2, −1 + 4 = 3; 2 and 0, −4 + 2 < 0."""
    found = ranking_loss(
        torch.tensor([-2.0, -1.0, -4.0]), torch.tensor([3.0, 1.0, 2.0]), torch.zeros(3)
    )
    assert found.total.item() == 4.0
    assert (found.pairs, found.misordered) == (3, 2)


def test_equal_rewards_are_no_pair_and_there_is_no_margin():
    tied = ranking_loss(torch.tensor([-2.0, -1.0]), torch.tensor([5.0, 5.0]), torch.zeros(2))
    assert (tied.total.item(), tied.pairs) == (0.0, 0)
    right = ranking_loss(torch.tensor([-1.0, -1.001]), torch.tensor([2.0, 1.0]), torch.zeros(2))
    assert (right.total.item(), right.pairs, right.misordered) == (0.0, 1, 0)


def test_prompts_of_a_batch_do_not_meet():
    """Two prompts together are the sum of each alone: 3 − 1 = 2 and 5 − 4 = 1. Across them there would be more."""
    means = torch.tensor([-1.0, -3.0, -4.0, -5.0])
    rewards, prompts = torch.tensor([1.0, 2.0, 7.0, 9.0]), torch.tensor([0, 0, 1, 1])
    found = ranking_loss(means, rewards, prompts)
    assert (found.total.item(), found.pairs) == (3.0, 2)
    parts = [ranking_loss(means[i : i + 2], rewards[i : i + 2], torch.zeros(2)) for i in (0, 2)]
    assert [part.total.item() for part in parts] == [2.0, 1.0]


def test_the_gradient_raises_the_better_and_lowers_the_worse():
    means = torch.tensor([-1.0, -3.0, -9.0], requires_grad=True)
    ranking_loss(means, torch.tensor([1.0, 2.0, 0.0]), torch.zeros(3)).total.backward()
    assert means.grad is not None
    assert means.grad.tolist() == [1.0, -1.0, 0.0]  # the third is where it belongs


def test_the_best_response_is_imitated_whole():
    """Σ log π of the best: −3 of prompt 0, −4 of prompt 1; a sum over its tokens, not their mean."""
    totals = torch.tensor([-4.0, -3.0, -4.0])
    loss = best_response_loss(totals, torch.tensor([0.0, 1.0, -5.0]), torch.tensor([0, 0, 1]))
    assert loss.item() == 7.0


def test_several_best_responses_share():
    totals = torch.tensor([-4.0, -2.0, -9.0], requires_grad=True)
    loss = best_response_loss(totals, torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3))
    assert loss.item() == pytest.approx(3.0)
    loss.backward()
    assert totals.grad is not None
    assert totals.grad.tolist() == [-0.5, -0.5, 0.0]
