import math

import pytest
import torch
from torch import tensor

from tureen_training.losses import (
    bradley_terry,
    centring,
    crowd_bradley_terry,
    ordinal,
    ranking,
    segment_bce,
)


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


def test_a_margin_and_smoothing_by_hand():
    chosen, rejected = tensor([2.0, 0.0, -1.0]), tensor([0.0, 0.0, 1.0])
    margin = tensor([0.5, 0.0, 1.0])  # Δ − m: 1.5, 0, −3
    expected = tensor([-log_sigmoid(1.5), math.log(2.0), -log_sigmoid(-3.0)])
    torch.testing.assert_close(bradley_terry(chosen, rejected, margin), expected)
    smoothed = [-0.9 * log_sigmoid(d) - 0.1 * log_sigmoid(-d) for d in (2.0, 0.0, -2.0)]
    torch.testing.assert_close(
        bradley_terry(chosen, rejected, label_smoothing=0.1), tensor(smoothed)
    )


def test_weights_share_out_the_loss_of_a_prompt():
    values, pairs = tensor([1.0, 0.0, 3.0]), tensor([[0, 1], [0, 2], [2, 1]])  # margins 1, −2, 3
    expected = -(2 * log_sigmoid(1.0) + log_sigmoid(-2.0) + log_sigmoid(3.0)) / 4
    weighted = ranking(values, pairs, weights=tensor([2.0, 1.0, 1.0]))
    assert weighted.item() == pytest.approx(expected, rel=1e-6)
    # twice the same pair is the pair with weight two
    twice = ranking(values, pairs[[0, 0, 1, 2]])
    torch.testing.assert_close(weighted, twice)


def test_crowd_bt_by_hand():
    chosen, rejected = tensor([2.0, 0.0, -1.0]), tensor([0.0, 0.0, 1.0])
    reliability = tensor([0.9, 0.7, 0.5])
    right, wrong = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    expected = tensor([-math.log(0.9 * right + 0.1 * wrong), math.log(2.0), math.log(2.0)])
    torch.testing.assert_close(crowd_bradley_terry(chosen, rejected, reliability), expected)


def test_crowd_bt_of_a_reliable_rater_is_bradley_terry():
    chosen, rejected = tensor([2.0, 0.0, -1.0]), tensor([0.0, 0.5, 1.0])
    reliability = torch.full((3,), 1 - 1e-6)
    torch.testing.assert_close(
        crowd_bradley_terry(chosen, rejected, reliability, margin=0.5),
        bradley_terry(chosen, rejected, margin=0.5),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_are_finite_for_any_margin(size: float, sign: int):
    values = tensor([sign * size, 0.0], requires_grad=True)
    reliability = tensor([0.9], requires_grad=True)
    pairs = tensor([[0, 1]])
    for loss in (
        ranking(values, pairs),
        ranking(values, pairs, label_smoothing=0.1),
        ranking(values, pairs, margins=tensor([size])),
        ranking(values, pairs, reliability=reliability),
        ordinal(values, tensor([1.0, 4.0]), tensor([-1.0, 0.0, 1.0])),
    ):
        (gradient,) = torch.autograd.grad(loss, values)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
    (gradient,) = torch.autograd.grad(ranking(values, pairs, reliability=reliability), reliability)
    assert torch.isfinite(gradient).all()


def test_an_unreliable_rater_teaches_less():
    values = tensor([0.0, 1.0], requires_grad=True)  # the rater says the opposite

    def pull(reliability: float) -> float:
        loss = ranking(values, tensor([[0, 1]]), reliability=tensor([reliability]))
        return float(torch.autograd.grad(loss, values)[0].abs().max())

    assert pull(0.5) == pytest.approx(0.0, abs=1e-7)
    assert pull(0.7) < pull(0.9) < pull(0.999)


def test_smoothing_and_reliability_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"):
        ranking(
            tensor([0.0, 1.0]),
            tensor([[1, 0]]),
            label_smoothing=0.1,
            reliability=tensor([0.9]),
        )


def test_ordinal_by_hand():
    """Marks 1, 3 and 5 out of three grades of two thresholds −1 and 1: grades 0, 1, 2."""
    values, thresholds = tensor([-2.0, 0.5, 1.0]), tensor([-1.0, 1.0])
    expected = [
        -log_sigmoid(-(-2 + 1)) - log_sigmoid(-(-2 - 1)),  # below both
        -log_sigmoid(0.5 + 1) - log_sigmoid(-(0.5 - 1)),  # above the first, below the second
        -log_sigmoid(1.0 + 1) - log_sigmoid(1.0 - 1),  # above both
    ]
    loss = ordinal(values, tensor([0.0, 1.0, 2.0]), thresholds)
    assert loss.item() == pytest.approx(sum(expected) / 6, rel=1e-6)


def test_a_grade_between_two_is_a_soft_label():
    """Grade 0.5: the threshold between 0 and 1 is passed by half."""
    value, thresholds = tensor([0.0]), tensor([0.0, 2.0])
    expected = (-0.5 * log_sigmoid(0.0) * 2 - log_sigmoid(2.0)) / 2
    assert ordinal(value, tensor([0.5]), thresholds).item() == pytest.approx(expected)


def test_thresholds_come_into_order_of_themselves():
    """Four values with the grades 0, 1, 1, 2 and thresholds begun the wrong way round."""
    values, grades = tensor([-2.0, -0.5, 0.5, 2.0]), tensor([0.0, 1.0, 1.0, 2.0])
    thresholds = tensor([1.0, -1.0], requires_grad=True)
    optimiser = torch.optim.Adam([thresholds], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        ordinal(values, grades, thresholds).backward()
        optimiser.step()
    assert thresholds[0] < thresholds[1]


def test_ordinal_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="must both have shape"):
        ordinal(tensor([1.0, 2.0]), tensor([1.0]), tensor([0.0]))
