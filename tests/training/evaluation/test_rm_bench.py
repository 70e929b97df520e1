"""RM-Bench by hand: three styles against three."""

from __future__ import annotations

from pathlib import Path

import benchmark_files
import feedback_files
import numpy as np
import pytest
from benchmark_files import rewarded

from tureen_training.data.jsonl import BadData
from tureen_training.evaluation import rm_bench
from tureen_training.evaluation.scorers import Model

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())


@pytest.fixture
def parts(tmp_path: Path):
    domains = ["chat", "math", "safety-refuse", "safety-response"]
    benchmark_files.parquet(
        tmp_path / "total_dataset.parquet",
        [benchmark_files.rm_bench(domain, n) for n, domain in enumerate(domains)],
    )
    return rm_bench.parts(tmp_path, None)


def test_the_triangles_by_hand(parts):
    """Rewards 1, 2, 3 of chosen by style against 0, 2, 4 of rejected.

    Rows of the matrix: 1 > 0 only: 1 0 0; 2 > 0 only, a tie with 2 is lost: 1 0 0; 3 > 0, 2: 1 1 0.
    Normal: the diagonal 1, 0, 0; hard: 0, 0, 0 above it; easy: 1, 1, 1 below it.
    """
    chat = rewarded(parts["chat"][0], 1, 2, 3, 0, 2, 4)
    found = rm_bench.report({"chat": [chat]}, MODEL)
    assert found["normal"].value == pytest.approx(1 / 3)
    assert found["hard"].value == 0.0
    assert found["easy"].value == 1.0
    assert found["score"].value == found["chat"].value == pytest.approx(4 / 9)
    assert found["concise_over_markdown"].value == 0.0
    assert found["markdown_over_detailed"].value == 1.0
    # by length: every fancier style is longer, so hard is lost and easy won whatever is said
    assert found["hard"].baselines["longer"] == 0.0
    assert found["easy"].baselines["longer"] == 1.0


def test_as_the_reference_code_scores(parts):
    """`compute_accuracy` of the repository: triu, diag, tril of the matrix, per domain, then the mean of domains."""
    rng = np.random.default_rng(1)
    read = {
        domain: [rewarded(example, *rng.normal(size=6)) for example in own]
        for domain, own in parts.items()
    }
    assert {domain: len(own) for domain, own in read.items()} == {"chat": 1, "math": 1, "safety": 2}
    accuracies = {}
    for domain, own in read.items():
        matrix = np.zeros((3, 3))
        for _, readings in own:
            rewards = [reading.reward for reading in readings]
            for i in range(3):
                for j in range(3):
                    matrix[i][j] += rewards[i] > rewards[3 + j]
        matrix /= len(own)
        accuracies[domain] = (
            np.sum(np.triu(matrix, 1)) / 3,
            np.mean(np.diag(matrix)),
            np.sum(np.tril(matrix, -1)) / 3,
        )
    found = rm_bench.report(read, MODEL)
    for domain, own in accuracies.items():
        assert found[domain].value == pytest.approx(np.mean(own))
        assert found[f"{domain}_hard"].value == pytest.approx(own[0])
    for place, name in enumerate(("hard", "normal", "easy")):
        assert found[name].value == pytest.approx(np.mean([a[place] for a in accuracies.values()]))
    assert found["score"].value == pytest.approx(np.mean([np.mean(a) for a in accuracies.values()]))
    assert found["worst_domain"].value == pytest.approx(
        min(np.mean(a) for a in accuracies.values())
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"domain": "poetry"}, "'domain' is 'poetry'; known: chat, code, math, safety"),
        ({"chosen": ["one"]}, "1 chosen and 3 rejected responses"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, change, problem: str):
    record = benchmark_files.rm_bench("chat", 0) | change
    feedback_files.write(tmp_path / "total_dataset.jsonl", [record])
    with pytest.raises(BadData, match=problem):
        rm_bench.parts(tmp_path, None)
