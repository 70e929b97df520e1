from __future__ import annotations

import math

import pytest

from tureen.contracts import Sample
from tureen.engine.parity import reward_parity, rewards
from tureen.engine.stub_backend import stub_model

TWO_SAMPLES = (
    Sample(prompt="Is it?", responses=("Yes.", "No, not at all.")),
    Sample(prompt="And now?", responses=("Perhaps.",)),
)


def test_errors_and_flips_by_hand():
    """Expected 1 < 2 < 3 = 3. Found 2.5, 2, 3, 3.5: of the five pairs that differ, (1, 2) flips.

    Errors are 1.5, 0, 0, 0.5.
    """
    parity = reward_parity([2.5, 2.0, 3.0, 3.5], [1.0, 2.0, 3.0, 3.0])
    assert (parity.responses, parity.pairs, parity.flipped) == (4, 5, 1)
    assert parity.flip_rate == pytest.approx(0.2)
    assert parity.max_error == pytest.approx(1.5)
    assert parity.mean_error == pytest.approx(0.5)


@pytest.mark.parametrize("found", [[1.0, 1.0], [math.nan, 2.0]])
def test_a_pair_that_is_equal_or_no_number_now_is_flipped(found: list[float]):
    assert reward_parity(found, [1.0, 2.0]).flip_rate == 1


def test_one_response_has_no_pair():
    parity = reward_parity([1.0], [1.5])
    assert (parity.pairs, parity.flip_rate, parity.max_error) == (0, 0.0, 0.5)


def test_rewards_are_those_of_all_responses_in_order():
    model = stub_model()
    one, two = TWO_SAMPLES
    assert rewards(model, TWO_SAMPLES) == rewards(model, [one]) + rewards(model, [two])
    assert len(rewards(model, TWO_SAMPLES)) == 3
