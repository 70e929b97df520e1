"""Critiques by segment: read strictly, merged with heads and people, agreement by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import feedback_files
import pytest
from stand_in_judge import StandInJudge, Status

from tureen_training import evaluate
from tureen_training.evaluation.critique import agreement, read_findings
from tureen_training.judge.errors import Failure, JudgeError


def test_a_whole_critique():
    text = "Let me see.\nSegment 1: ok\n**Segment 2: factuality - the year is 1871**\nSegment 3: Relevance"
    assert read_findings(text, 3) == (
        ("ok", ""),
        ("factuality", "the year is 1871"),
        ("relevance", ""),
    )


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Segment 1: ok", Failure.UNREADABLE),  # the second is missing
        ("Segment 1: ok\nSegment 2: charm", Failure.OUT_OF_SCALE),
        ("Segment 1: ok\nSegment 2: ok\nSegment 2: factuality - no", Failure.CONTRADICTORY),
        ("Segment 1: ok\nSegment 2: not factuality", Failure.UNREADABLE),
        ("I cannot rate this.", Failure.REFUSAL),
        ("", Failure.EMPTY),
    ],
)
def test_what_is_no_critique(text: str, failure: Failure):
    with pytest.raises(JudgeError) as caught:
        read_findings(text, 2)
    assert caught.value.failure == failure


def segment(judge: str | None, head: bool, human: bool | None) -> dict:
    return {
        **({} if judge is None else {"judge": {"fault": judge, "reason": ""}}),
        "heads": {"factuality": {"value": 0.0, "fault": head}},
        "people": {} if human is None else {"factuality": human},
    }


def test_agreement_by_hand():
    """Judge 1 1 0 0, head 1 0 0 0: p_o ¾, p_e ½ · ¼ + ½ · ¾ = ½, κ ½; people looked at two of them."""
    own = [
        segment("factuality", True, True),
        segment("factuality", False, None),
        segment("ok", False, False),
        segment("relevance", False, None),
    ]
    found = agreement([{"segments": own}, {"segments": [segment(None, True, None)]}])
    assert found["factuality_judge_head_kappa"].value == pytest.approx(0.5)
    assert found["factuality_judge_human_kappa"].value == 1.0
    assert found["factuality_judge_blames"].value == 0.5
    assert found["factuality_head_blames"].value == pytest.approx(2 / 5)
    assert found["factuality_human_blames"].n == 2
    assert found["relevance_judge_blames"].value == 0.25
    assert "relevance_head_blames" not in found


@pytest.mark.slow
def test_from_the_command_on(tmp_path: Path, models: Path):
    """The first response of each question has people's spans; the judge blames every first segment."""
    feedback_files.directory(tmp_path / "qa_feedback", questions=2)

    def critical(messages) -> str:
        count = messages[1]["content"].count(" segment ")
        lines = [
            "Segment 1: factuality - made up",
            *(f"Segment {n}: ok" for n in range(2, count + 1)),
        ]
        return "\n".join(lines)

    config = evaluate.Config(
        data=str(tmp_path),
        suite="critique",
        model=str(models / "judge"),
        judge_url="set below",
        judge_model="stand-in",
        judge_concurrency=1,
        out=str(tmp_path / "out"),
    )
    with StandInJudge("No idea.", Status(500), answer=critical) as stand_in:
        found = evaluate.main(replace(config, judge_url=stand_in.url))
    responses = 2 * 5  # four samples and the correction
    assert found["no_verdict"].value == pytest.approx(1 / responses)
    lines = (tmp_path / "out/critiques.jsonl").read_text().splitlines()
    critiques = [json.loads(line) for line in lines]
    assert len(critiques) == responses
    without = [one for one in critiques if "judge" not in one["segments"][0]]
    assert len(without) == 1
    judged = next(one for one in critiques if one["response"] == 0 and one not in without)
    assert judged["segments"][0]["judge"] == {"fault": "factuality", "reason": "made up"}
    # of the first sentence people marked the year; the second is irrelevant, which says nothing of facts
    assert judged["segments"][0]["people"] == {"factuality": True, "relevance": False}
    assert judged["segments"][1]["people"]["relevance"] is True
    assert set(judged["segments"][0]["heads"]) == {"factuality", "relevance"}
    assert {"factuality_judge_blames", "factuality_head_blames", "relevance_human_blames"} <= set(
        found
    )
