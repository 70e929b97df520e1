"""Agreement against hand arithmetic and published examples."""

import math

import numpy as np
import pytest

from tureen_training.annotators.agreement import (
    cohen_kappa,
    fleiss_kappa,
    human_ceiling,
    krippendorff_alpha,
    observed_agreement,
)

# Fleiss 1971, table 1: six of 43 psychiatrists sort each of thirty patients into five diagnoses.
FLEISS_1971 = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
# The worked example of Wikipedia's "Fleiss' kappa": fourteen raters, ten subjects, five categories.
FLEISS_WIKIPEDIA = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", part C: four observers, twelve units.
KRIPPENDORFF_2011 = """1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""


def counts_of(table: str, labels: int) -> np.ndarray:
    rows = [line.split() for line in table.splitlines()]
    return np.array(
        [
            [sum(vote == str(label + 1) for vote in unit) for label in range(labels)]
            for unit in zip(*rows, strict=True)
        ]
    )


def test_cohen_by_hand():
    # observed 2/3; expected 2/3·1/3 + 1/3·2/3 = 4/9; κ = (6/9 − 4/9) / (5/9) = 2/5
    assert cohen_kappa(np.array([0, 0, 1]), np.array([0, 1, 1]), 2) == pytest.approx(0.4)


def test_weighted_cohen_by_hand():
    # weights of disagreement, linear |i − j|: observed (0 + 1 + 0)/3 = 1/3
    # expected over the 9 cells of {0, 1, 2} × {0, 2, 2}: (0+2+2 + 1+1+1 + 2+0+0)/9 = 1; κ = 1 − 1/3
    first, second = np.array([0, 1, 2]), np.array([0, 2, 2])
    assert cohen_kappa(first, second, 3, "linear") == pytest.approx(2 / 3)
    # quadratic: observed 1/3; expected (0+4+4 + 1+1+1 + 4+0+0)/9 = 15/9; κ = 1 − 3/15
    assert cohen_kappa(first, second, 3, "quadratic") == pytest.approx(0.8)


def test_the_whole_scale_counts_in_weights_even_where_a_label_is_never_given():
    # labels 0 and 3 of a scale of four: disagreement is full whatever the weights, so κ is that of two labels
    first, second = np.array([0, 0, 3]), np.array([0, 3, 3])
    assert cohen_kappa(first, second, 4, "linear") == pytest.approx(0.4)


def test_kappa_of_constant_or_no_votes_is_undefined():
    assert math.isnan(cohen_kappa(np.array([1, 1]), np.array([1, 1]), 2))
    assert math.isnan(cohen_kappa(np.array([]), np.array([]), 2))
    assert math.isnan(fleiss_kappa(np.array([[2, 0], [2, 0], [2, 0]])))
    assert math.isnan(krippendorff_alpha(np.array([[2, 0], [2, 0], [2, 0]])))
    assert math.isnan(krippendorff_alpha(np.array([[1, 0], [0, 1]])))  # nobody shares an item
    assert math.isnan(observed_agreement(np.array([[1, 0], [0, 1]])))


def test_fleiss_by_hand():
    # P = (1, 0, 1), mean 2/3; p = (1/2, 1/2), P_e = 1/2; κ = (4/6 − 3/6) / (3/6) = 1/3
    counts = np.array([[2, 0], [1, 1], [0, 2]])
    assert fleiss_kappa(counts) == pytest.approx(1 / 3)
    assert observed_agreement(counts) == pytest.approx(2 / 3)


def test_fleiss_of_the_paper():
    counts = np.array([[int(n) for n in row] for row in FLEISS_1971.split()])
    assert fleiss_kappa(counts) == pytest.approx(0.430, abs=5e-4)


def test_fleiss_of_the_encyclopedia():
    assert fleiss_kappa(np.array(FLEISS_WIKIPEDIA)) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_refuses_unequal_numbers_of_votes():
    with pytest.raises(ValueError, match=r"got \[1, 2\].*krippendorff_alpha"):
        fleiss_kappa(np.array([[2, 0], [0, 1]]))


def test_krippendorff_by_hand():
    # six votes a a | a b | b b: D_o = 2/6 (both orders of the one mixed pair); n_a = n_b = 3,
    # D_e = 2·3·3 / (6·5) = 18/30; α = 1 − (1/3)/(3/5) = 4/9
    assert krippendorff_alpha(np.array([[2, 0], [1, 1], [0, 2]])) == pytest.approx(4 / 9)


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorff_of_the_paper_with_missing_raters(metric, published):
    counts = counts_of(KRIPPENDORFF_2011, 5)
    assert krippendorff_alpha(counts, metric) == pytest.approx(published, abs=5e-4)
    unshared = np.array([[0, 0, 1, 0, 0]])  # one vote alone says nothing of agreement
    assert krippendorff_alpha(np.concatenate([counts, unshared]), metric) == pytest.approx(
        published, abs=5e-4
    )


def test_interval_values_may_be_given():
    counts = counts_of(KRIPPENDORFF_2011, 5)
    stretched = krippendorff_alpha(counts, "interval", np.array([10.0, 20, 30, 40, 50]))
    assert stretched == pytest.approx(0.849, abs=5e-4)  # α knows no unit


def test_an_unknown_metric_names_the_known():
    with pytest.raises(ValueError, match="'ratio'; known: nominal, ordinal, interval"):
        krippendorff_alpha(np.array([[2, 0], [0, 2]]), "ratio")  # pyright: ignore[reportArgumentType]


def test_the_human_ceiling():
    # InstructGPT's labellers agree on 72.6 %: √0.452 = 0.6723, p = 0.8362
    assert human_ceiling(0.726) == pytest.approx(0.8362, abs=5e-5)
    assert human_ceiling(0.773) == pytest.approx(0.8695, abs=5e-5)
    assert human_ceiling(0.5) == 0.5
    assert human_ceiling(1.0) == 1.0
    assert math.isnan(human_ceiling(0.49))
