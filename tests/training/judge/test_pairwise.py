import pytest

from tureen_training.judge.pairwise import BothOrders, position_bias
from tureen_training.judge.rubric import FIRST, SECOND, TIE


@pytest.mark.parametrize(
    ("forward", "shown_swapped", "verdict", "turned"),
    [
        (FIRST, SECOND, FIRST, False),  # "A" and then, the other way round, "B": the same response
        (SECOND, FIRST, SECOND, False),
        (TIE, TIE, TIE, False),
        (FIRST, FIRST, TIE, True),  # "A" both times: the order speaks
        (SECOND, SECOND, TIE, True),
        (FIRST, TIE, TIE, True),
        (TIE, FIRST, TIE, True),
    ],
)
def test_only_a_verdict_that_survives_the_swap_counts(forward, shown_swapped, verdict, turned):
    both = BothOrders.read(forward, shown_swapped)
    assert (both.verdict, both.turned) == (verdict, turned)


def test_position_bias_by_hand():
    # A/A: first shown wins twice. A/B: once each. tie/tie: not decided. 4 decided, 3 for the first shown.
    comparisons = [
        BothOrders.read(FIRST, FIRST),
        BothOrders.read(FIRST, SECOND),
        BothOrders.read(TIE, TIE),
    ]
    bias = position_bias(comparisons)
    assert bias is not None
    assert bias.pairs == 3
    assert bias.disagreement_rate == pytest.approx(1 / 3)
    assert bias.first_shown_rate == pytest.approx(3 / 4)


def test_nothing_decided_has_no_rate():
    bias = position_bias([BothOrders.read(TIE, TIE)])
    assert bias is not None
    assert bias.first_shown_rate is None
    assert position_bias([]) is None
