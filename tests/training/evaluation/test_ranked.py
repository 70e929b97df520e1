"""Ranked responses: Kendall's τ_b and top-1 by hand and against SciPy."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import corpus_files
import feedback_files
import numpy as np
import pytest
from benchmark_files import rewarded
from scipy.stats import kendalltau

from tureen_training.data.records import Comparison, Example, compare
from tureen_training.evaluation import ranked
from tureen_training.evaluation.ranked import kendall_tau, top1
from tureen_training.evaluation.scorers import Model

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())


def ordered(*scores: float) -> Example:
    found = compare(scores)
    return Example(
        prompt_id=f"p{scores}",
        origin="test",
        prompt="?",
        responses=tuple("x" * (k + 1) for k in range(len(scores))),
        pairs={Comparison.PREFERENCE: found.pairs},
        ties={Comparison.PREFERENCE: found.ties},
    )


def test_tau_b_by_hand():
    """Scores 3 2 2 1, rewards 4 4 3 1: pairs 01 tied by the reward, 12 by the judges, 02 03 13 23 right.

    C = 4, D = 0, T_r = 1, T_h = 1: 4 / √(5 · 5).
    """
    assert kendall_tau(ordered(3, 2, 2, 1), [4, 4, 3, 1]) == pytest.approx(4 / 5)
    assert kendall_tau(ordered(1, 2, 3), [3, 2, 1]) == -1.0
    assert math.isnan(kendall_tau(ordered(1, 1, 1), [1, 2, 3]))
    assert math.isnan(kendall_tau(ordered(1, 2, 3), [1, 1, 1]))


def test_tau_b_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, rewards = rng.integers(0, 4, (2, 6)).tolist()
        expected = kendalltau(scores, rewards)[0]
        assert kendall_tau(ordered(*scores), rewards) == pytest.approx(expected, nan_ok=True)


def test_top1_by_hand():
    assert top1(ordered(1, 3, 2), [0, 5, 1]) == 1.0
    assert top1(ordered(1, 3, 2), [0, 1, 5]) == 0.0
    assert top1(ordered(3, 3, 2), [1, 5, 0]) == 1.0  # either of two best
    assert top1(ordered(1, 3, 2), [0, 5, 5]) == 0.5  # the reward cannot tell


def test_figures_and_baselines():
    """Rewards as scores in one prompt, against them in the other, a constant reward in the third."""
    read = [
        rewarded(ordered(1, 2, 3), 1, 2, 3),
        rewarded(ordered(3, 1, 2), 1, 3, 2),
        rewarded(ordered(1, 2, 3), 0, 0, 0),
    ]
    found = ranked.report({"tulu_human": read}, MODEL)
    assert found["tulu_human_tau"].value == pytest.approx((1 - 1) / 2)
    assert found["tulu_human_tau"].prompts == 2
    assert found["tulu_human_tau_undefined"].value == pytest.approx(1 / 3)
    # the longer response is the later one: τ 1, −1/3, 1
    assert found["tulu_human_tau"].baselines["longer"] == pytest.approx(5 / 9)
    assert found["tulu_human_tau"].baselines["first"] == pytest.approx(-5 / 9)
    assert found["tulu_human_top1"].value == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert found["tulu_human_top1"].baselines["chance"] == pytest.approx(1 / 3)
    assert found["tulu_human_accuracy"].value == pytest.approx((3 + 0 + 1.5) / 9)


def test_files_that_are_there(tmp_path: Path):
    pandalm = [corpus_files.pandalm(n) for n in range(3)]
    for record, scores in zip(pandalm, ([0.9, 0.1, 0.1], [0.5, 0.5, None], [1, 0, 0]), strict=True):
        for response, score in zip(record["responses"], scores, strict=True):
            response["score"] = score
    feedback_files.write(tmp_path / "pandalm_human.jsonl", pandalm)
    alpaca = [corpus_files.alpaca(n) for n in range(2)]
    feedback_files.write(tmp_path / "alpaca_eval_gpt4.jsonl.gz", alpaca)
    prometheus = corpus_files.prometheus(0)
    for response in prometheus["responses"]:
        response["context"] = "###User: Hello"
    feedback_files.write(
        tmp_path / "prometheus_gpt4.jsonl", [prometheus, corpus_files.prometheus(1)]
    )
    skipped: Counter[str] = Counter()
    found = ranked.parts(tmp_path, None, skipped)
    assert {name: len(own) for name, own in found.items()} == {
        "pandalm_human": 3,
        "alpaca_eval_gpt4": 2,
        "prometheus_gpt4": 1,
    }
    first, second, _ = found["pandalm_human"]
    pairs = first.pairs[Comparison.PREFERENCE]
    assert [(p.chosen, p.rejected) for p in pairs] == [(0, 1), (0, 2)]
    assert [(t.first, t.second) for t in first.ties[Comparison.PREFERENCE]] == [(1, 2)]
    assert len(second.responses) == 2
    # 0.9 and 0.895 are a tie
    tied = found["alpaca_eval_gpt4"][0].ties[Comparison.PREFERENCE]
    assert [(t.first, t.second) for t in tied] == [(0, 1)]
    assert skipped["response without a score"] == 1
    assert skipped["responses to different dialogues"] == 1


def test_none_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no file pandalm_human or tulu_human"):
        ranked.parts(tmp_path, None, Counter())
