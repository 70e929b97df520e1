"""RewardBench by hand: subsets into sections, sections into the score."""

from __future__ import annotations

from pathlib import Path

import benchmark_files
import feedback_files
import pytest
from benchmark_files import rewarded

from tureen_training.data.jsonl import BadData
from tureen_training.data.records import Split
from tureen_training.evaluation import rewardbench
from tureen_training.evaluation.scorers import Model

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())
WON = {
    "mt-bench-easy": [1, 0],
    "alpacaeval-easy": [1],
    "llmbar-natural": [0],
    "donotanswer": [1],
    "math-prm": [0, 0],
    "hep-go": [1],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    records = [
        benchmark_files.rewardbench(subset, number)
        for subset, won in WON.items()
        for number in range(len(won))
    ]
    benchmark_files.parquet(tmp_path / "data/filtered-00000-of-00001.parquet", records)
    return tmp_path


def read(data: Path):
    parts = rewardbench.parts(data, None)
    return {
        subset: [
            rewarded(example, float(won), 0.5)
            for example, won in zip(examples, WON.get(subset, [1] * 9), strict=False)
        ]
        for subset, examples in parts.items()
    }


def test_sections_and_score_by_hand(data: Path):
    found = rewardbench.report(read(data), MODEL)
    # chat: (28 · ½ + 100 · 1) / 128; reasoning: (984 · 0 + 164 · 1) / 1148, the published weights of the subsets
    expected = {
        "chat": 114 / 128,
        "chat_hard": 0.0,
        "safety": 1.0,
        "reasoning": 164 / 1148,
    }
    for section, value in expected.items():
        assert found[section].value == pytest.approx(value), section
    assert found["score"].value == pytest.approx(sum(expected.values()) / 4)
    assert found["worst_domain"].value == 0.0
    assert found["mt-bench-easy"].value == 0.5
    assert found["mt-bench-easy"].n == 2
    assert "score_with_prior_sets" not in found
    # the chosen responses are the longer ones
    assert found["score"].baselines == {"longer": 1.0, "shorter": 0.0, "chance": 0.5}


def test_published_weights():
    """Section 3 of the paper and `rewardbench/constants.py`: 2,985 prompts, math-prm raised from 447 to 984."""
    counts = [n for own in rewardbench.SECTIONS.values() for n in own.values()]
    assert sum(counts) - 984 + 447 == 2985
    assert [sum(own.values()) for own in rewardbench.SECTIONS.values()] == [358, 456, 740, 1968]


def test_prior_sets_weigh_half_a_section(data: Path):
    feedback_files.write(
        data / "shp.jsonl", [benchmark_files.prior_set(number) for number in range(2)]
    )
    benchmark_files.parquet(
        data / "data/anthropic_hhh-00000-of-00001.parquet", [benchmark_files.prior_set(0)]
    )
    own = read(data)
    assert [message.role for message in own["shp"][0][0].messages or ()] == [
        "user",
        "assistant",
        "user",
    ]
    own["shp"] = [rewarded(own["shp"][0][0], 1.0, 0.0), rewarded(own["shp"][1][0], 0.0, 0.0)]
    own["anthropic_hhh"] = [rewarded(own["anthropic_hhh"][0][0], 0.0, 1.0)]
    found = rewardbench.report(own, MODEL)
    sections = 114 / 128 + 0.0 + 1.0 + 164 / 1148
    assert found["prior_sets"].value == pytest.approx((0.5 + 0.0) / 2)
    assert found["score"].value == pytest.approx(sections / 4)
    assert found["score_with_prior_sets"].value == pytest.approx((2 * sections + 0.25) / 9)
    # a tie is lost, and counted: 1 of 8 + 3 pairs
    assert found["tie_rate"].value == pytest.approx(1 / 11)
    assert found["worst_domain"].value == 0.0


def test_a_constant_reward_wins_nothing(data: Path):
    parts = rewardbench.parts(data, None)
    found = rewardbench.report(
        {subset: [rewarded(e, 0.0, 0.0) for e in own] for subset, own in parts.items()}, MODEL
    )
    assert found["score"].value == 0.0
    assert found["tie_rate"].value == 1.0


def test_the_split_and_an_unknown_subset(data: Path):
    whole = rewardbench.parts(data, None)
    split = [rewardbench.parts(data, part) for part in Split]
    for subset, examples in whole.items():
        found = {e.prompt_id for own in split for e in own[subset]}
        assert found == {e.prompt_id for e in examples}
    feedback_files.write(data / "filtered.jsonl", [benchmark_files.rewardbench("alpacaeval", 0)])
    with pytest.raises(BadData, match="'subset' is 'alpacaeval'; known: alpacaeval-easy"):
        rewardbench.parts(data, None)
