import numpy as np
import pytest

from tureen_training.annotators.majority import decided, majority, reliability_weighted

# one item: rater 0 says label 0, raters 1 and 2 say label 1
COUNTS = np.array([[[1, 0], [0, 1], [0, 1]]])


def test_majority_is_the_share_of_votes():
    assert majority(COUNTS) == pytest.approx(np.array([[1 / 3, 2 / 3]]))
    assert np.isnan(majority(np.zeros((1, 2, 2), dtype=int))).all()


def test_one_good_rater_outweighs_two_poor_ones():
    # odds of label 0: 0.9/0.1 · (0.4/0.6)² = 9 · 4/9 = 4
    posterior = reliability_weighted(COUNTS, np.array([0.9, 0.6, 0.6]))
    assert posterior == pytest.approx(np.array([[0.8, 0.2]]))


def test_a_prior_multiplies_the_odds():
    # 4 · (1/4)/(3/4) = 4/3
    posterior = reliability_weighted(
        COUNTS, np.array([0.9, 0.6, 0.6]), prior=np.array([0.25, 0.75])
    )
    assert posterior == pytest.approx(np.array([[4 / 7, 3 / 7]]))


def test_three_labels_share_the_error():
    # rater of 0.8 says 0: 0.8 against 0.1 and 0.1
    counts = np.array([[[1, 0, 0]]])
    assert reliability_weighted(counts, np.array([0.8])) == pytest.approx(
        np.array([[0.8, 0.1, 0.1]])
    )


def test_a_coin_tosser_weighs_nothing_and_a_liar_counts_against():
    assert reliability_weighted(np.array([[[1, 0]]]), np.array([0.5])) == pytest.approx(0.5)
    assert reliability_weighted(np.array([[[1, 0]]]), np.array([0.1])) == pytest.approx(
        np.array([[0.1, 0.9]])
    )


def test_certain_raters_are_refused():
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        reliability_weighted(COUNTS, np.array([1.0, 0.6, 0.6]))


def test_ties_are_undecided():
    assert decided(np.array([[0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])).tolist() == [-1, 1, 0]
