import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, roc_auc_score

from tureen_training import metrics
from tureen_training.metrics import (
    Bin,
    accuracy,
    all_one_class,
    auroc,
    balanced_accuracy,
    bootstrap,
    brier,
    ece,
    f1_clean,
    f1_error,
    f1_macro,
    reliability,
    tie_rate,
)

# value below 0 is called an error: hits 1 (−1), called 2, errors 2
UNITS = np.array([[-1.0, 0], [-2.0, 1], [3.0, 0], [4.0, 1], [5.0, 1]])


def test_accuracy_counts_a_draw_half():
    assert accuracy(np.array([1.0, -2.0, 0.0])) == pytest.approx(0.5)
    assert accuracy(np.array([1.0, 2.0, 0.0])) == pytest.approx(2.5 / 3)
    assert tie_rate(np.array([1.0, 2.0, 0.0])) == pytest.approx(1 / 3)


def test_auroc_by_hand():
    # clean at 2 and 0, error at 1 and 0: pairs 2>1, 2>0, 0<1, 0=0: (1 + 1 + 0 + ½) / 4
    rows = np.array([[2.0, 1], [0.0, 1], [1.0, 0], [0.0, 0]])
    assert auroc(rows) == pytest.approx(2.5 / 4)
    assert math.isnan(auroc(rows[:2]))


def test_f1_of_both_classes_by_hand():
    assert f1_error(UNITS) == pytest.approx(2 * 1 / (2 + 2))  # P = 1/2, R = 1/2
    assert f1_clean(UNITS) == pytest.approx(2 * 2 / (3 + 3))  # P = 2/3, R = 2/3
    assert f1_macro(UNITS) == pytest.approx((1 / 2 + 2 / 3) / 2)
    # 1 of 2 errors called, 2 of 3 clean ones not
    assert balanced_accuracy(UNITS) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert math.isnan(balanced_accuracy(UNITS[[0, 2]]))


def test_predictors_that_read_nothing():
    # share of errors p = 2/5: F1 of all errors 2p / (1 + p)
    assert all_one_class(UNITS, f1_error) == {
        "all errors": pytest.approx(0.8 / 1.4),
        "all clean": 0.0,
    }
    assert set(all_one_class(UNITS, balanced_accuracy).values()) == {0.5}


def test_against_scikit_learn():
    rng = np.random.default_rng(3)
    rows = np.stack([rng.integers(-4, 5, 300), rng.integers(0, 2, 300)], axis=1).astype(float)
    wrong, called = rows[:, 1] < 0.5, rows[:, 0] < 0
    assert auroc(rows) == pytest.approx(roc_auc_score(rows[:, 1], rows[:, 0]))
    assert f1_error(rows) == pytest.approx(f1_score(wrong, called))
    assert f1_clean(rows) == pytest.approx(f1_score(~wrong, ~called))
    assert balanced_accuracy(rows) == pytest.approx(balanced_accuracy_score(wrong, called))
    p = rng.random(300)
    assert brier(p) == pytest.approx(brier_score_loss(np.ones(300), p, pos_label=1))


def test_ece_by_hand():
    # confidences .9 .8 .6, each its own bin: right, wrong, right
    p = np.array([0.9, 0.2, 0.6])
    expected = [Bin(0.6, 1.0, 1), Bin(0.8, 0.0, 1), Bin(0.9, 1.0, 1)]
    assert np.array(reliability(p)) == pytest.approx(np.array(expected))
    assert ece(p) == pytest.approx((0.4 + 0.8 + 0.1) / 3)
    # one bin: accuracy 2/3, confidence 2.3/3
    assert ece(p, bins=1) == pytest.approx(0.1)
    assert brier(p) == pytest.approx((0.01 + 0.64 + 0.16) / 3)


def test_bins_hold_equally_many_and_equal_confidences_stay_together():
    assert [b.n for b in reliability(np.linspace(0.5, 1, 30))] == [2] * 15
    p = np.array([0.7] * 20 + [0.3] * 10)
    [only] = reliability(p)
    assert only == (pytest.approx(0.7), pytest.approx(2 / 3), 30)
    assert ece(p) == ece(p[::-1]) == pytest.approx(0.7 - 2 / 3)


def test_always_a_half_is_calibrated_and_says_nothing():
    p = np.full(10, 0.5)
    assert ece(p) == 0.0
    assert brier(p) == 0.25


def test_perfect_probabilities_have_the_error_of_the_sample():
    # |accuracy − confidence| of n draws of p is about √(2 p (1 − p) / (π n))
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.5, 1, 30000)
    p = np.where(rng.random(30000) < chance, chance, 1 - chance)
    assert ece(p) < 0.02


def test_bootstrap_draws_prompts_not_rows():
    # two prompts of 50 equal rows each: any resample is 0, ½ or 1, so the interval is everything
    figure = bootstrap([np.ones(50), -np.ones(50)], accuracy, baselines={"chance": 0.5})
    assert (figure.value, figure.low, figure.high) == (0.5, 0.0, 1.0)
    assert (figure.n, figure.prompts) == (100, 2)


def test_bootstrap_leaves_out_prompts_without_rows_and_refuses_nothing():
    figure = bootstrap([np.ones(2), np.empty(0)], accuracy, baselines={"chance": 0.5})
    assert (figure.value, figure.prompts) == (1.0, 1)
    with pytest.raises(ValueError, match="nothing to measure"):
        bootstrap([np.empty(0)], accuracy, baselines={"chance": 0.5})


def test_the_baseline_is_the_best_of_them():
    rows = [np.array([1.0, -1.0])]
    assert bootstrap(rows, accuracy, baselines={"a": 0.4, "b": 0.6}).baseline == 0.6
    lower = bootstrap(rows, accuracy, baselines={"a": 0.4, "b": 0.6}, lower_is_better=True)
    assert lower.baseline == 0.4


def test_the_interval_of_an_error_measure_holds_its_value():
    rng = np.random.default_rng(2)
    groups = [rng.uniform(0.2, 0.9, 5) for _ in range(40)]
    figure = bootstrap(groups, ece, baselines={"always ½": 0.0}, lower_is_better=True)
    assert 0 <= figure.low <= figure.value <= figure.high


def test_a_mean_keeps_its_interval_within_what_was_seen():
    """Shares of 0 and 1 have an interval in [0, 1]; the best baseline is the least where less is better."""
    groups = [np.array([1.0]), np.array([0.0, 0.0]), np.array([1.0])]
    found = metrics.mean(groups, baselines={"a": 0.2, "b": 0.4}, lower_is_better=True)
    assert (found.value, found.n, found.prompts) == (0.5, 4, 3)
    assert 0 <= found.low <= found.high <= 1
    assert found.baseline == 0.2
    assert metrics.mean(groups, baselines={"a": 0.2, "b": 0.4}).baseline == 0.4


def test_several_figures_of_the_same_resamples():
    groups = [np.array([float(n)]) for n in range(20)]
    found = metrics.bootstrap_all(
        groups,
        lambda rows: {"mean": float(rows.mean()), "twice": float(2 * rows.mean())},
        baselines={"mean": {"none": 0.0}, "twice": {"none": 0.0}},
    )
    alone = metrics.bootstrap(groups, lambda rows: float(rows.mean()), baselines={"none": 0.0})
    assert found["mean"] == alone
    assert found["twice"].low == pytest.approx(2 * alone.low)
