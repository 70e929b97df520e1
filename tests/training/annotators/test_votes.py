import numpy as np
import pytest

from tureen_training.annotators.votes import Vote, Votes

VOTES = Votes.of(
    [
        Vote("q1", "ann", "bad"),
        Vote("q1", "bob", "good"),
        Vote("q2", "bob", "good"),
        Vote("q2", "bob", "bad"),
        Vote("q3", "cid", "good"),
    ],
    labels=("bad", "good"),
)


def test_counts_of_items_raters_and_labels():
    assert (VOTES.items, VOTES.raters) == (("q1", "q2", "q3"), ("ann", "bob", "cid"))
    assert VOTES.counts().tolist() == [
        [[1, 0], [0, 1], [0, 0]],
        [[0, 0], [1, 1], [0, 0]],
        [[0, 0], [0, 0], [0, 1]],
    ]
    assert VOTES.item_counts().tolist() == [[1, 1], [1, 1], [0, 1]]


def test_shared_items_are_those_of_two_raters_not_of_two_votes():
    shared = VOTES.shared()
    assert (shared.items, shared.raters) == (("q1",), ("ann", "bob"))
    assert shared.codes.tolist() == [[0, 0, 0], [0, 1, 1]]


def test_the_table_is_blank_where_a_rater_voted_twice():
    assert np.isnan(VOTES.table()).tolist() == [
        [False, False, True],
        [True, True, True],
        [True, True, False],
    ]
    assert VOTES.table()[0, :2].tolist() == [0, 1]


def test_an_unknown_label_names_rater_item_and_the_nearest():
    with pytest.raises(ValueError, match="'ann' gave 'q1' the label 'goood'; did you mean 'good'"):
        Votes.of([Vote("q1", "ann", "goood")], labels=("bad", "good"))


def test_no_votes_are_an_error():
    with pytest.raises(ValueError, match="no votes"):
        Votes.of([], labels=("a",))
    with pytest.raises(ValueError, match="no votes"):
        VOTES.only(np.zeros(5, dtype=bool))
