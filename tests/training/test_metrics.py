import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tureen_training.metrics import accuracy, auroc, bootstrap, f1_always_error, f1_error


def test_accuracy_counts_a_draw_half():
    assert accuracy(np.array([1.0, -2.0, 0.0])) == pytest.approx(0.5)
    assert accuracy(np.array([1.0, 2.0, 0.0])) == pytest.approx(2.5 / 3)


def test_auroc_by_hand():
    # clean at 2 and 0, error at 1 and 0: pairs 2>1, 2>0, 0<1, 0=0: (1 + 1 + 0 + ½) / 4
    rows = np.array([[2.0, 1], [0.0, 1], [1.0, 0], [0.0, 0]])
    assert auroc(rows) == pytest.approx(2.5 / 4)
    assert math.isnan(auroc(rows[:2]))


def test_against_scikit_learn():
    rng = np.random.default_rng(3)
    rows = np.stack([rng.integers(-4, 5, 300), rng.integers(0, 2, 300)], axis=1).astype(float)
    assert auroc(rows) == pytest.approx(roc_auc_score(rows[:, 1], rows[:, 0]))
    assert f1_error(rows) == pytest.approx(f1_score(rows[:, 1] < 0.5, rows[:, 0] < 0))
    always = f1_score(rows[:, 1] < 0.5, np.ones(300, dtype=bool))
    assert f1_always_error(rows) == pytest.approx(always)


def test_bootstrap_draws_prompts_not_rows():
    # two prompts of 50 equal rows each: any resample is 0, ½ or 1, so the interval is everything
    figure = bootstrap([np.ones(50), -np.ones(50)], accuracy, baseline=0.5)
    assert (figure.value, figure.low, figure.high) == (0.5, 0.0, 1.0)
    assert (figure.n, figure.prompts) == (100, 2)


def test_bootstrap_leaves_out_prompts_without_rows_and_refuses_nothing():
    figure = bootstrap([np.ones(2), np.empty(0)], accuracy, baseline=0.5)
    assert (figure.value, figure.prompts) == (1.0, 1)
    with pytest.raises(ValueError, match="nothing to measure"):
        bootstrap([np.empty(0)], accuracy, baseline=0.5)
