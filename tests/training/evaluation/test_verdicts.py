"""A judge that misbehaves in every way it can is never mistaken for a score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from stand_in_judge import Body, Choice, Hang, StandInJudge, Status, Step

from tureen.client.flow import Retry
from tureen_training.evaluation.config import Config
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.subjects import Subjects
from tureen_training.evaluation.verdicts import Question, verdicts
from tureen_training.judge.client import Judge
from tureen_training.judge.errors import Failure
from tureen_training.judge.parsing import parse_rating

MISBEHAVIOURS: Mapping[str, tuple[Step, Failure]] = {
    "prose around a number": ("I would give it a 5, or 4 out of 5.", Failure.UNREADABLE),
    "two verdicts": ("Rating: 5\nOn second thoughts\nRating: 1", Failure.CONTRADICTORY),
    "off the scale": ("Rating: 11", Failure.OUT_OF_SCALE),
    "a refusal in words": ("I'm sorry, I can't rate this 5.", Failure.REFUSAL),
    "a refusal in its field": (Choice({"content": "5", "refusal": "No."}), Failure.REFUSAL),
    "a filter": (Choice({"content": "Rating: 5"}, "content_filter"), Failure.REFUSAL),
    "cut off": (Choice({"content": "Rating: 5"}, "length"), Failure.CUT_OFF),
    "silence": (Choice({"content": ""}), Failure.EMPTY),
    "too many requests": (Status(429), Failure.RATE_LIMITED),
    "an error of the server": (Status(500, body="Rating: 5"), Failure.SERVER_ERROR),
    "no JSON": (Body(b"Rating: 5"), Failure.BROKEN_RESPONSE),
    "half an answer": (Body(b'{"choices": [{"message"', missing=9), Failure.BROKEN_RESPONSE),
    "no answer in time": (Hang(), Failure.TIMEOUT),
}


@contextmanager
def judging(stand_in: StandInJudge, out: Path, *, model: str = "stand-in", timeout_s: float = 30.0):
    with Judge(
        stand_in.url, model, timeout_s=timeout_s, retry=Retry(max_retries=0), concurrency=1
    ) as judge:
        yield Job(
            suite="test",
            config=Config(data="."),
            data=Path(),
            split=None,
            out=out,
            subjects=cast(Subjects, SimpleNamespace(judge=judge, given=frozenset())),
        )


def questions(count: int) -> list[Question[int]]:
    return [
        Question(
            f"q{n}", [{"role": "user", "content": f"{n}"}], partial(parse_rating, low=1, high=5)
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_a_misbehaviour_is_a_failure_of_its_kind_and_of_its_question_alone(
    name: str, tmp_path: Path
):
    step, failure = MISBEHAVIOURS[name]
    timeout_s = 2.0 if failure is Failure.TIMEOUT else 30.0
    with StandInJudge(step, answer=lambda _: "Rating: 3") as stand_in:
        with judging(stand_in, tmp_path, timeout_s=timeout_s) as job:
            assert verdicts(job, questions(3)) == [failure, 3, 3]
        assert job.notes == [f"1 questions without a verdict of the judge: {failure.value}"]
        # only what was answered is kept, and only the other is asked again
        kept = (tmp_path / "results.judge.jsonl").read_text().splitlines()
        assert [json.loads(line).get("id") for line in kept] == [None, "q1", "q2"]
        asked = len(stand_in.requests)
        with judging(stand_in, tmp_path) as job:
            assert verdicts(job, questions(3)) == [3, 3, 3]
        assert len(stand_in.requests) == asked + 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_question_would_meet_stops_at_once(status: int, tmp_path: Path):
    with (
        StandInJudge("Rating: 3", *[Status(status)] * 5) as stand_in,
        judging(stand_in, tmp_path) as job,
    ):
        with pytest.raises(ConnectionError, match="What was answered is kept"):
            verdicts(job, questions(3))
        assert len(stand_in.requests) <= 3
    lines = (tmp_path / "results.judge.jsonl").read_text().splitlines()
    assert len(lines) == 2  # the judge's name, and the one answer


def test_another_judge_does_not_inherit_verdicts(tmp_path: Path):
    with StandInJudge(answer=lambda _: "Rating: 3") as stand_in:
        with judging(stand_in, tmp_path) as job:
            verdicts(job, questions(1))
        with (
            judging(stand_in, tmp_path, model="another") as job,
            pytest.raises(ValueError, match="has results of the model judge stand-in"),
        ):
            verdicts(job, questions(1))
