import pytest
from bench.throughput import parity


def test_parity_is_the_largest_error_and_the_share_of_turned_pairs():
    """Two prompts of three responses. 1 > 2 is turned in the first, nothing in the second: 1 of 6."""
    reference = [3.0, 2.0, 1.0, 5.0, 6.0, 7.0]
    found = [3.0, 0.9, 1.0, 5.0, 6.2, 7.0]
    assert parity(reference, found, responses=3) == {
        "max_abs_reward_error": pytest.approx(1.1),
        "pair_flip_rate": pytest.approx(1 / 6),
        "pairs": 6,
    }
