"""Reward, judge and people on the same pairs: agreement and disagreements by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import feedback_files
import pytest
from stand_in_judge import StandInJudge

from tureen_training import evaluate
from tureen_training.data.records import Comparison, Example, Pair, Tie
from tureen_training.evaluation.oversight import (
    HUMAN,
    JUDGE,
    REWARD,
    Item,
    agreement,
    disagreements,
    items_of,
)


def example(name: str = "p", **said) -> Example:
    return Example(
        prompt_id=name,
        origin="test",
        prompt="?",
        responses=("a", "bb", "ccc"),
        pairs={Comparison.PREFERENCE: said.get("pairs", ())},
        ties={Comparison.PREFERENCE: said.get("ties", ())},
    )


def test_the_majority_of_the_people():
    pairs = (Pair(1, 0, rater="ann"), Pair(0, 1, rater="bob"), Pair(1, 0, rater="cem"))
    pairs += (
        Pair(2, 0, rater="ann"),
        Pair(0, 2, rater="bob"),
        Pair(1, 2),
    )  # the last by nobody known
    found = list(items_of([example(pairs=pairs, ties=(Tie(2, 1, "ann"),))]))
    assert [(i.first, i.second, i.people, i.votes[HUMAN]) for i in found] == [
        (0, 1, (2, 0, 1), -1),
        (0, 2, (1, 0, 1), 0),  # even
        (1, 2, (0, 1, 0), 0),
    ]


def item(name: str, human: int, reward: int, judge: int | None = None, margin: float = 1.0) -> Item:
    votes = {HUMAN: human, REWARD: reward} | ({} if judge is None else {JUDGE: judge})
    return Item(example(name), 0, 1, (0, 0, 1), votes, margin * reward)


def test_agreement_by_hand():
    """Human 1 1 −1 −1, reward 1 −1 −1 −1: p_o ¾, p_e ½ · ¼ + ½ · ¾ = ½, κ = ½."""
    pairs = [(1, 1), (1, -1), (-1, -1), (-1, -1)]
    items = [item(f"p{n}", *pair) for n, pair in enumerate(pairs)]
    found = agreement(items)
    assert found["human_reward_kappa"].value == pytest.approx(0.5)
    assert found["human_reward_agreement"].value == 0.75
    assert found["human_reward_agreement"].baselines["chance"] == pytest.approx(0.5)
    # eight votes, three of one kind and five of the other: D_o = 2/8, D_e = 2 · 3 · 5 / (8 · 7)
    assert found["alpha"].value == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert "human_judge_kappa" not in found
    assert "human_alpha" not in found  # one person on each


def test_the_surest_contradiction_comes_first():
    items = [
        item("agree", 1, 1, 1, 9.0),
        item("mild", 1, -1, 1, 0.5),
        item("sure", -1, 1, None, 2.0),
        item("judge only", 0, 1, -1, 1.0),
        item("tie", 0, 1, 0, 3.0),
    ]
    found = disagreements(items)
    assert [one.example.prompt_id for one, _ in found] == ["sure", "judge only", "mild"]
    # margins 9, −0.5, 2, 1, 3: mean 2.9, squares of the differences sum to 53.2
    assert found[0][1] == pytest.approx(2 / (53.2 / 5) ** 0.5)


def test_from_the_command_on(tmp_path: Path):
    """A length-only reward against people who like it short, and a judge who likes what is shown first."""
    records = [
        {
            "id": f"q{n}",
            "prompt": f"Why {n}?",
            "responses": ["Because.", "Because " + "of that " * (n + 1)],
            "pairs": [{"chosen": 0, "rejected": 1, "rater": rater} for rater in ("ann", "bob")],
        }
        for n in range(4)
    ]
    path = feedback_files.write(tmp_path / "mine.jsonl", records)
    config = evaluate.Config(
        data=str(tmp_path),
        suite="oversight",
        responses=str(path),
        model="length",
        judge_url="set below",
        judge_model="stand-in",
        out=str(tmp_path / "out"),
    )
    with StandInJudge(answer=lambda _: "Verdict: A") as stand_in:
        found = evaluate.main(replace(config, judge_url=stand_in.url))
    assert found["human_reward_agreement"].value == 0.0
    assert found["human_judge_agreement"].value == 0.0  # every verdict turned: all ties
    assert found["no_verdict"].value == 0.0
    lines = (tmp_path / "out/disagreements.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert [one["id"] for one in listed] == ["q3", "q2", "q1", "q0"]
    assert listed[0]["votes"] == {"human": "first", "reward": "second", "judge": "tie"}
    assert listed[0]["people"] == {"second": 0, "tie": 0, "first": 2}
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["disagreements"]["found"] == 4


def test_without_raters_there_is_nothing_to_compare(tmp_path: Path):
    path = feedback_files.write(
        tmp_path / "mine.jsonl",
        [
            {
                "id": "q",
                "prompt": "?",
                "responses": ["a", "b"],
                "pairs": [{"chosen": 0, "rejected": 1}],
            }
        ],
    )
    with pytest.raises(ValueError, match="no pair of responses was compared by a named rater"):
        evaluate.main(
            evaluate.Config(
                data=str(tmp_path), suite="oversight", responses=str(path), model="length"
            )
        )
