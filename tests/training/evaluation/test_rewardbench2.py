"""RewardBench 2 by hand: best of four, and the score of many right answers."""

from __future__ import annotations

from math import tanh
from pathlib import Path

import benchmark_files
import feedback_files
import numpy as np
import pytest
from benchmark_files import rewarded

from tureen_training.data.jsonl import BadData
from tureen_training.evaluation import rewardbench2
from tureen_training.evaluation.rewardbench2 import credit, ties_score
from tureen_training.evaluation.scorers import Model

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())


def test_credit_is_shared_among_the_maxima():
    assert credit([2, 1, 1, 1]) == 1.0
    assert credit([2, 2, 1, 1]) == 0.5
    assert credit([1, 1, 1, 1]) == 0.25  # a constant reward gets chance
    assert credit([1, 2, 0, 0]) == 0.0


def ties(tmp_path: Path):
    """1: tied 5, 4 over 1 (spread 1, gap 3), reference 2 over 0. 2: tied 5, 1 over 2, reference 3 over 1."""
    records = [
        benchmark_files.rewardbench2("Ties", "tied:1", ["x", "y"], ["z"]),
        benchmark_files.rewardbench2("Ties", "ref:1", ["x"], ["z"]),
        benchmark_files.rewardbench2("Ties", "tied:2", ["x", "y"], ["z"]),
        benchmark_files.rewardbench2("Ties", "ref:2", ["x"], ["z"]),
    ]
    feedback_files.write(tmp_path / "test.jsonl", records)
    examples = rewardbench2.parts(tmp_path, None)["Ties"]
    rewards = [(5.0, 4.0, 1.0), (2.0, 0.0), (5.0, 1.0, 2.0), (3.0, 1.0)]
    return [rewarded(example, *own) for example, own in zip(examples, rewards, strict=True)]


def test_the_score_of_ties_by_hand(tmp_path: Path):
    found = rewardbench2.report({"Ties": ties(tmp_path)}, MODEL)
    # tied right: 1 of 2; reference right: 2 of 2; gap > spread: 3 > 1, −1 > 4 no; min(gap, ref): 2 > 1, −1 > 4 no
    # margins: tanh(2/1 − 1), tanh(−1/4 − 1)
    expected = 0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * (tanh(1) + tanh(-1.25)) / 2
    assert found["Ties"].value == pytest.approx(expected)
    assert found["score"].value == found["worst_domain"].value == found["Ties"].value


def test_ties_as_the_reference_code_scores_them():
    """`process_single_model` of the reference package, written out again from its lines."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5))
    rows[:, :2] = rows[:, :2] > 0
    rows[:, 2] = np.abs(rows[:, 2])
    reference, tied, spread, gap, ref_gap = rows.T
    preferred = np.mean(gap > spread)
    hard = np.mean(np.minimum(ref_gap, gap) > spread)
    margin = np.mean(np.nan_to_num(np.tanh(np.minimum(ref_gap, gap) / spread - 1), nan=0.0))
    overall = (
        0.30 * np.mean(tied)
        + 0.30 * np.mean(reference)
        + 0.20 * preferred
        + 0.20 * hard
        + 0.01 * margin
    )
    assert ties_score(rows) == pytest.approx(float(overall))


def test_a_number_without_its_partner_counts_in_its_accuracy_alone():
    rows = np.array([[1.0, 1.0, 1.0, 3.0, 2.0], [1.0, np.nan, np.nan, np.nan, 5.0]])
    assert ties_score(rows) == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01 * tanh(1))
    assert ties_score(np.array([[1.0, 1.0, 0.0, 0.0, 1.0]])) == pytest.approx(0.6)  # 0 / 0 is 0


def test_the_score_is_the_mean_of_the_subsets(tmp_path: Path):
    own = ties(tmp_path)
    records = [
        *[benchmark_files.rewardbench2("Factuality", str(n)) for n in range(2)],
        benchmark_files.rewardbench2("Precise IF", "9"),
    ]
    feedback_files.write(tmp_path / "test.jsonl", records)
    parts = rewardbench2.parts(tmp_path, None)
    assert list(parts) == ["Factuality", "Precise IF"]
    facts, (precise,) = parts["Factuality"], parts["Precise IF"]
    read = {
        "Factuality": [
            rewarded(facts[0], 3.0, 1.0, 1.0, 1.0),
            rewarded(facts[1], 3.0, 3.0, 1.0, 1.0),
        ],
        "Precise IF": [rewarded(precise, 0.0, 1.0, 0.0, 0.0)],
        "Ties": own,
    }
    found = rewardbench2.report(read, MODEL)
    assert found["Factuality"].value == 0.75
    assert found["Factuality"].baselines["chance"] == 0.25
    # "yes" is longer than "a", "b", "c"
    assert found["Precise IF"].baselines["longer"] == 1.0
    assert found["Precise IF"].baselines["shorter"] == 0.0
    assert found["score"].value == pytest.approx((0.75 + 0.0 + found["Ties"].value) / 3)
    assert found["worst_domain"].value == 0.0


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (
            benchmark_files.rewardbench2("Math", "1") | {"num_correct": 2},
            "num_correct is 2, chosen has 1",
        ),
        (benchmark_files.rewardbench2("Math", "1", ["a", "b"]), "Math has one right response"),
        (benchmark_files.rewardbench2("Ties", "7"), "begins with 'ref:' or 'tied:'"),
        (benchmark_files.rewardbench2("Chat", "1"), "'subset' is 'Chat'; known: Factuality"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, record, problem: str):
    feedback_files.write(tmp_path / "test.jsonl", [record])
    with pytest.raises(BadData, match=problem):
        rewardbench2.parts(tmp_path, None)
