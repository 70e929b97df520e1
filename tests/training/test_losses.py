import math

import pytest
import torch
from torch import tensor

from tureen_training.losses import bradley_terry, centring, ranking, segment_bce


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_bradley_terry_by_hand():
    chosen = tensor([2.0, 0.0, -1.0])
    rejected = tensor([0.0, 0.0, 1.0])
    expected = tensor([-log_sigmoid(2.0), math.log(2.0), -log_sigmoid(-2.0)])
    torch.testing.assert_close(bradley_terry(chosen, rejected), expected)


def test_bradley_terry_is_finite_where_exp_overflows():
    assert bradley_terry(tensor([-1e4]), tensor([1e4])).item() == pytest.approx(2e4)


def test_ranking_is_the_mean_over_the_pairs_used():
    values = tensor([1.0, 0.0, 3.0])
    pairs = tensor([[0, 1], [0, 2], [2, 1]])  # margins 1, −2, 3
    expected = -(log_sigmoid(1.0) + log_sigmoid(-2.0) + log_sigmoid(3.0)) / 3
    assert ranking(values, pairs).item() == pytest.approx(expected, rel=1e-6)
    # a dropped tie changes the divisor, not the weight of the prompt
    expected = -(log_sigmoid(1.0) + log_sigmoid(3.0)) / 2
    assert ranking(values, pairs[[0, 2]]).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [(0.3, -1.2), (-4.0, 4.0), (0.0, 0.0)])
def test_two_responses_are_bradley_terry(first: float, second: float):
    values = tensor([first, second], requires_grad=True)
    by_ranking = ranking(values, tensor([[0, 1]]))
    (gradient,) = torch.autograd.grad(by_ranking, values)
    direct = bradley_terry(values[:1], values[1:]).mean()
    (expected,) = torch.autograd.grad(direct, values)
    torch.testing.assert_close(by_ranking, direct)
    torch.testing.assert_close(gradient, expected)


def test_ranking_ignores_a_shift_and_centring_does_not():
    values, pairs = tensor([1.0, 0.0, 3.0]), tensor([[0, 1], [2, 0]])
    torch.testing.assert_close(ranking(values, pairs), ranking(values + 5, pairs))
    # (1 + 0)² = 1, (3 + 1)² = 16
    assert centring(values, pairs).item() == pytest.approx(8.5)
    assert centring(values + 5, pairs).item() > 8.5


@pytest.mark.parametrize("pairs", [torch.empty(0, 2, dtype=torch.long), tensor([0, 1])])
def test_ranking_refuses_what_is_no_list_of_pairs(pairs):
    with pytest.raises(ValueError, match="pairs must have shape"):
        ranking(tensor([1.0, 2.0]), pairs)


def test_segment_bce_by_hand():
    values = tensor([2.0, 1.0, -3.0])
    labels = tensor([1.0, 0.0, 0.0])
    mask = tensor([True, True, False])
    clean, error = -log_sigmoid(2.0), -log_sigmoid(-1.0)
    assert segment_bce(values, labels, mask).item() == pytest.approx((clean + error) / 2)
    weighted = (clean + 3 * error) / 4
    assert segment_bce(values, labels, mask, error_weight=3.0).item() == pytest.approx(weighted)


def test_a_masked_unit_has_no_say():
    labels, mask = tensor([1.0, 0.0, float("nan")]), tensor([True, True, False])
    values = tensor([0.5, -0.5, 100.0], requires_grad=True)
    loss = segment_bce(values, labels, mask)
    (gradient,) = torch.autograd.grad(loss, values)
    assert math.isfinite(loss.item())
    assert gradient[2] == 0
    assert gradient[:2].abs().min() > 0


def test_nothing_to_learn_from_is_a_loss_of_zero():
    values = tensor([1.0, -1.0], requires_grad=True)
    loss = segment_bce(values, tensor([0.0, 1.0]), tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert values.grad is not None
    assert not values.grad.any()
