import math

import pytest
import torch
from torch import tensor

from tureen_training.kl import KlController, estimates


def test_the_estimators_by_hand():
    """d = 0, log 2 and −log 2."""
    two = math.log(2)
    found = estimates(tensor([[-1.0, -1.0, -1 - two]]), tensor([[-1.0, -1 - two, -1.0]]))
    torch.testing.assert_close(found.k1, tensor([[0.0, two, -two]]))
    torch.testing.assert_close(found.k2, tensor([[0.0, two**2 / 2, two**2 / 2]]))
    torch.testing.assert_close(found.k3, tensor([[0.0, 0.5 - 1 + two, 2 - 1 - two]]))


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    """Expectations under π = (0.7, 0.2, 0.1) against π_ref = (0.3, 0.3, 0.4), taken exactly."""
    p, q = tensor([0.7, 0.2, 0.1]).double(), tensor([0.3, 0.3, 0.4]).double()
    kl = (0.7 * math.log(7 / 3)) + (0.2 * math.log(2 / 3)) + (0.1 * math.log(1 / 4))
    found = estimates(p.log()[None], q.log()[None])
    assert (p * found.k1).sum().item() == pytest.approx(kl)
    assert (p * found.k3).sum().item() == pytest.approx(kl)
    assert (p * found.k2).sum().item() != pytest.approx(kl, rel=0.01)
    assert (found.k3 >= 0).all()


def test_a_fixed_coefficient_stays():
    fixed = KlController(0.1)
    fixed.update(100.0, 512)
    assert fixed.coefficient == 0.1


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        (6.6, 0.1 * (1 + 0.1 * 50 / 1000)),  # 10 % above the target
        (60.0, 0.1 * (1 + 0.2 * 50 / 1000)),  # clipped
        (0.0, 0.1 * (1 - 0.2 * 50 / 1000)),
        (6.0, 0.1),
    ],
)
def test_an_adaptive_coefficient_follows_the_error(nats: float, expected: float):
    adaptive = KlController(0.1, target_nats_per_response=6.0, horizon_responses=1000)
    adaptive.update(nats, 50)
    assert adaptive.coefficient == pytest.approx(expected, rel=1e-12)


def test_the_state_is_the_coefficient():
    first, second = KlController(0.1), KlController(0.0)
    first.raise_by(1.5)
    second.restore(first.state())
    assert second.coefficient == pytest.approx(0.15)
    zero = KlController(0.0)
    zero.raise_by(2)
    assert zero.coefficient == 1e-3


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="coefficient is -1"):
        KlController(-1)
    with pytest.raises(ValueError, match="target is 0"):
        KlController(0, target_nats_per_response=0)
    with pytest.raises(ValueError, match="horizon is 0"):
        KlController(0, horizon_responses=0)
