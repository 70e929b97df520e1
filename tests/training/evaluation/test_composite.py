"""Scores made of parts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tureen_training.evaluation import composite
from tureen_training.evaluation.composite import Structure, values

STRUCTURE = Structure(
    domains={"one": {"a": 1.0, "b": 3.0}, "two": {"c": 1.0}, "gone": {"d": 1.0}},
    scores={"score": {"one": 1.0, "two": 1.0, "gone": 1.0}, "half": {"one": 2.0, "two": 1.0}},
    worst_of=("one", "two", "gone"),
    measures={"c": lambda rows: float(rows[:, 1].max())},
)
A, B, C = np.array([[1.0], [0.0]]), np.array([[1.0]]), np.array([[0.0, 0.25], [0.0, 0.75]])


def test_subsets_domains_scores_and_the_worst():
    """a ½, b 1, c by its own measure ¾; one (½ + 3 · 1) / 4 = 7/8; nothing is there of `gone`, so it takes no part."""
    found = values(STRUCTURE, {"a": A, "b": B, "c": C})
    assert found["one"] == 7 / 8
    assert found["two"] == found["worst_domain"] == 3 / 4
    assert found["score"] == pytest.approx((7 / 8 + 3 / 4) / 2)
    assert found["half"] == pytest.approx((2 * 7 / 8 + 3 / 4) / 3)
    assert np.isnan(found["gone"])
    assert (found["a"], found["b"], found["c"]) == (0.5, 1.0, 0.75)


def test_figures_count_their_own_prompts_and_keep_parts_together():
    groups = {"a": [A[:1], A[1:]], "b": [B], "c": [C]}
    baselines = [("none", {"a": A * 0, "b": B * 0, "c": C * 0})]
    found = composite.figures(
        groups, lambda rows: values(STRUCTURE, rows), baselines, STRUCTURE.subsets_of
    )
    assert "gone" not in found
    assert (found["score"].n, found["score"].prompts) == (5, 4)
    assert (found["one"].n, found["one"].prompts) == (3, 3)
    assert (found["c"].n, found["c"].prompts) == (2, 1)
    assert found["score"].baselines == {"none": 0.0}
    assert found["one"].low <= 7 / 8 <= found["one"].high
