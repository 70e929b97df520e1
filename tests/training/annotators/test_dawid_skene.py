"""Dawid–Skene against the paper's own data, against crowd-kit, and on simulated raters."""

import numpy as np
import pytest
from simulated_raters import one_coin

from tureen_training.annotators import dawid_skene
from tureen_training.annotators.majority import decided, majority

# Dawid & Skene 1979, table 1: five anaesthetists judge the fitness of 45 patients, the first of them three times.
PATIENTS = """1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111
2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111
1111111 1212111 2322222 1211111 2222222"""
OBSERVER = (0, 0, 0, 1, 2, 3, 4)  # of each column


def anaesthetists() -> np.ndarray:
    counts = np.zeros((45, 5, 4), dtype=np.int64)
    for patient, row in enumerate(PATIENTS.split()):
        for observer, label in zip(OBSERVER, row, strict=True):
            counts[patient, observer, int(label) - 1] += 1
    return counts


def test_the_paper():
    result = dawid_skene.fit(anaesthetists(), smoothing=0, tolerance=1e-10)
    assert result.converged
    assert result.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=5e-3)  # table 3
    # crowd-kit 1.4.2, 300 steps of EM
    assert result.confusion[0] == pytest.approx(
        np.array(
            [
                [0.88949, 0.11051, 0, 0],
                [0.07059, 0.87638, 0.05303, 0],
                [0, 0.33882, 0.66118, 0],
                [0, 0, 0.55556, 0.44444],
            ]
        ),
        abs=2e-5,
    )


def test_every_step_raises_the_likelihood():
    steps = np.array(dawid_skene.fit(anaesthetists(), smoothing=0).log_likelihood)
    assert (np.diff(steps) > -1e-9).all()


@pytest.mark.parametrize("seed", range(5))
def test_planted_reliabilities_are_found_and_beat_the_majority(seed):
    """400 items, three labels, five raters of whom one is good. Bounds from 5 seeds: errors 0.036–0.066 (the
    standard error of a share of 400 near ½ is 0.025), gain over the majority 0.11–0.14."""
    planted = np.array([0.92, 0.6, 0.55, 0.5, 0.45])
    truth, counts = one_coin(planted, items=400, labels=3, seed=seed)
    result = dawid_skene.fit(counts)
    assert result.converged
    assert np.abs(result.reliability - planted).max() < 0.1
    assert right(result.posterior, truth) > right(majority(counts), truth) + 0.07


def right(posterior: np.ndarray, truth: np.ndarray) -> float:
    """Share of items; an undecided one is right with the odds of a guess among all labels."""
    labels = decided(posterior)
    return float(np.where(labels == -1, 1 / posterior.shape[1], labels == truth).mean())


def test_smoothing_takes_a_rater_of_one_vote_for_an_average_one():
    _, counts = one_coin(np.array([0.9, 0.8, 0.7, 0.9]), items=400, labels=2, seed=0)
    counts[1:, 3] = 0
    assert dawid_skene.fit(counts, smoothing=0).confusion[3].max() == pytest.approx(1)
    # 1,200 votes, 0.8 of them right, count as 2; its own vote as 1: (2 · 0.8 + 1)/3 = 0.87, and 0.8 where it has none
    assert dawid_skene.fit(counts).reliability[3] == pytest.approx(0.83, abs=0.06)


def test_an_item_without_votes_is_an_error():
    with pytest.raises(ValueError, match="item 1 has no vote"):
        dawid_skene.fit(np.array([[[1, 0]], [[0, 0]]]))
    with pytest.raises(ValueError, match="smoothing is -1"):
        dawid_skene.fit(np.array([[[1, 0]]]), smoothing=-1)
