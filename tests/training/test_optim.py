import pytest
import torch
from accelerate import Accelerator
from torch import nn, tensor

from tureen_training.objective import HeadLoss
from tureen_training.optim import adamw, linear_decay, totals, update


def test_the_learning_rate_rises_and_falls():
    factors = [linear_decay(step, 10, 0.2) for step in range(10)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert factors[-1] == pytest.approx(1 / 8)
    assert linear_decay(0, 1, 0.1) == 1.0


def test_an_update_moves_each_group_by_its_own_rate():
    """Adam's first step is the rate times the sign of the gradient, whatever its size."""
    layer, head, threshold = (nn.Parameter(tensor([1.0])) for _ in range(3))
    optimiser = adamw(
        [layer], [head], [threshold], learning_rate=0.1, head_learning_rate=0.2, weight_decay=0.5
    )
    update(optimiser, (3 * layer - 5 * head + 0 * threshold).sum(), 0.5, Accelerator())
    assert layer.item() == pytest.approx(1 - 0.05 * 0.5 - 0.05)  # decays, then steps down
    assert head.item() == pytest.approx(1 - 0.1 * 0.5 + 0.1)
    assert threshold.item() == 1.0


def test_nothing_to_learn_from_is_a_step_all_the_same():
    """Another process may have something: every process steps every parameter."""
    head = nn.Parameter(tensor([1.0]))
    optimiser = adamw([], [head], [], learning_rate=0.1, head_learning_rate=0.1, weight_decay=0.0)
    update(optimiser, torch.zeros(()), 1.0, Accelerator())
    assert head.item() == 1.0
    assert optimiser.state[head]["step"].item() == 1


def test_totals_of_one_process_are_its_own():
    found = {"preference": HeadLoss(tensor(1.5), 2), "relevance": HeadLoss()}
    terms, losses = totals(found, Accelerator())
    assert terms == {"preference": 2, "relevance": 0}
    assert losses == {"preference": 1.5, "relevance": 0.0}
