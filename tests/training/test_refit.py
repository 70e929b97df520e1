import numpy as np
import pytest

from tureen_training.data.records import Comparison, Example, Pair
from tureen_training.refit import grounded_share, ridge, targets


def example(responses: tuple[str, ...], pairs: tuple[Pair, ...]) -> Example:
    return Example(
        prompt_id="q",
        origin="feedback",
        prompt="Who?",
        context=("The mill was built by Anna.", "It burned down."),
        responses=responses,
        pairs={Comparison.PREFERENCE: pairs},
        spans={},
    )


def test_word_pairs_are_looked_for_in_one_passage_at_a_time():
    context = ("The mill was built by Anna.", "It burned down.")
    # was-built, built-by are there; by-Ben is not
    assert grounded_share("Was built by Ben", context) == pytest.approx(2 / 3)
    assert grounded_share("Anna. It", context) == 0.0  # a pair across passages is none
    assert grounded_share("Anna", context) == 0.0  # no pair at all


def test_targets_add_centred_preferences_and_grounding():
    responses = ("The mill was built by Anna.", "Ben built it.", "Nobody knows.", "Who can say?")
    pairs = (Pair(0, 1), Pair(0, 2), Pair(0, 3))
    # net wins 3, -1, -1, -1 and shares 1, 0, 0, 0 both scale to (3, -1, -1, -1) / √3
    expected = 2 * np.array([3, -1, -1, -1]) / np.sqrt(3)
    assert targets(example(responses, pairs)) == pytest.approx(expected)


def test_questions_that_say_nothing_have_no_target():
    same = ("It burned down.",) * 4
    assert targets(example(same, ())).tolist() == [0, 0, 0, 0]


def test_ridge_shrinks_by_hand():
    """One feature of standard deviation 1: w = Σxy / (Σx² + penalty) = 8 / (4 + 4)."""
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    y = np.array([2.0, -2.0, 2.0, -2.0])
    assert ridge(x, y, penalty=0.0) == pytest.approx([2.0])
    assert ridge(x, y, penalty=4.0) == pytest.approx([1.0])


def test_ridge_does_not_care_for_the_units_of_a_feature():
    x = np.array([[1.0, 3.0], [-1.0, 1.0], [2.0, -2.0], [-2.0, -2.0]])
    y = np.array([1.0, 0.5, -1.0, -0.5])
    unit = ridge(x, y, penalty=2.0)
    assert ridge(x * [1.0, 1000.0], y, penalty=2.0) == pytest.approx(unit / [1.0, 1000.0])
