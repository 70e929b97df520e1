"""The heads of whole answers, fitted last: by hand, against an optimiser, and into a soup on disk."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from tureen.model.reward_model import EVIDENCE_WIDTH
from tureen_training.data.records import Comparison, Example, Pair
from tureen_training.refit import (
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


def test_evidence_stands_at_the_end():
    basis = evidence_basis(EVIDENCE_WIDTH + 2)
    assert basis.shape == (EVIDENCE_WIDTH, EVIDENCE_WIDTH + 2)
    assert (basis @ np.arange(EVIDENCE_WIDTH + 2.0)).tolist() == [
        2.0 + i for i in range(EVIDENCE_WIDTH)
    ]


def test_without_context_is_as_with_average_evidence():
    hidden, compared = 2, EVIDENCE_WIDTH - 2
    weight = np.arange(1.0, 1 + hidden + EVIDENCE_WIDTH)[None]
    means = np.concatenate([[9.0, 9.0], [0.0], np.full(compared, 0.5), [4.0]])
    found = neutral_without_context(weight, means)
    average = np.concatenate([[0.0, 0.0], [0.0], np.full(compared, 0.5), [0.0]])
    absent = np.concatenate([[0.0, 0.0], [4.0], np.zeros(compared), [0.0]])
    assert found[0] @ absent == pytest.approx(found[0] @ average)
    assert np.delete(found, hidden, axis=1).tolist() == np.delete(weight, hidden, axis=1).tolist()
