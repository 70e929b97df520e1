"""The heads of whole answers, fitted last: by hand, against an optimiser, and into a soup on disk."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from tureen.model.reward_model import EVIDENCE_WIDTH
from tureen.text.unit_features import UNIT_FEATURES
from tureen_training.data.records import Comparison, Example, Pair
from tureen_training.refit import (
    clean_or_error,
    differences,
    evidence_basis,
    logistic,
    neutral_without_context,
)


def test_differences_are_chosen_minus_rejected_of_what_teaches_the_head():
    example = Example(
        prompt_id="p",
        origin="feedback",
        prompt="q",
        responses=("a", "b", "c"),
        pairs={
            Comparison.PREFERENCE: (Pair(0, 1), Pair(2, 0)),
            Comparison.COVERAGE: (Pair(1, 2),),
        },
    )
    x = np.array([[1.0, 5.0], [3.0, 4.0], [0.0, 1.0]])
    assert differences(x, example, "preference").tolist() == [[-2.0, 1.0], [-1.0, -4.0]]
    assert differences(x, example, "completeness").tolist() == [[3.0, 3.0]]


def test_a_question_without_comparisons_has_no_differences():
    example = Example(prompt_id="p", origin="feedback", prompt="q", responses=("a",))
    assert differences(np.ones((1, 4)), example, "preference").shape == (0, 4)


def test_logistic_minimises_the_stated_loss():
    rng = np.random.default_rng(5)
    moves = rng.normal(size=(60, 3)) * [1.0, 20.0, 0.1] + [0.3, 2.0, 0.0]
    penalty = 7.0
    scale = np.sqrt((moves**2).mean(axis=0))

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -moves @ w).sum() + penalty / 2 * np.square(w * scale).sum())

    expected = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    assert logistic(moves, penalty) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_number_that_never_differs_gets_nothing():
    moves = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    assert logistic(moves, 1.0)[1] == 0.0


def test_evidence_stands_before_what_is_counted():
    basis = evidence_basis(2 + EVIDENCE_WIDTH + UNIT_FEATURES)
    assert basis.shape == (EVIDENCE_WIDTH, 2 + EVIDENCE_WIDTH + UNIT_FEATURES)
    assert (basis @ np.arange(2.0 + EVIDENCE_WIDTH + UNIT_FEATURES)).tolist() == [
        2.0 + i for i in range(EVIDENCE_WIDTH)
    ]


def test_without_context_is_as_with_average_evidence():
    hidden, compared, counted = 2, EVIDENCE_WIDTH - 2, [3.0] * UNIT_FEATURES
    weight = np.arange(1.0, 1 + hidden + EVIDENCE_WIDTH + UNIT_FEATURES)[None]
    means = np.concatenate([[9.0, 9.0], [0.0], np.full(compared, 0.5), [4.0], counted])
    found = neutral_without_context(weight, means)
    nothing = [0.0] * UNIT_FEATURES
    average = np.concatenate([[0.0, 0.0], [0.0], np.full(compared, 0.5), [0.0], nothing])
    absent = np.concatenate([[0.0, 0.0], [4.0], np.zeros(compared), [0.0], nothing])
    assert found[0] @ absent == pytest.approx(found[0] @ average)
    assert np.delete(found, hidden, axis=1).tolist() == np.delete(weight, hidden, axis=1).tolist()


def test_clean_or_error_minimises_the_stated_loss():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(80, 3)) * [1.0, 20.0, 0.1] + [0.3, 2.0, 0.0]
    clean = x[:, 0] + rng.normal(size=80) > 0
    penalty, sd = 7.0, x.std(axis=0)

    def loss(w: np.ndarray) -> float:
        margin = np.where(clean, 1, -1) * (x @ w[:3] + w[3])
        return float(np.logaddexp(0, -margin).sum() + penalty / 2 * np.square(w[:3] * sd).sum())

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    weight, bias = clean_or_error(x, clean, penalty)
    assert [*weight, bias] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_number_that_is_always_the_same_says_nothing():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [-1.0, 5.0]])
    weight, _ = clean_or_error(x, np.array([True, True, False]), 1.0)
    assert weight[1] == 0.0
