"""Win rates by hand, by reward and by a judge that misbehaves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import feedback_files
import numpy as np
import pico_ppo
import pytest
from benchmark_files import rewarded
from stand_in_judge import Choice, StandInJudge, Status

from tureen_training import evaluate
from tureen_training.evaluation.responses import Match
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.win_rate import judge_figures, report
from tureen_training.judge.errors import Failure
from tureen_training.judge.rubric import FIRST, SECOND, TIE

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())


def match(name: str, before: tuple[str, ...], after: tuple[str, ...]) -> Match:
    return Match(prompt_id=name, prompt="?", messages=None, context=(), before=before, after=after)


def test_by_reward_all_pairs_of_a_prompt():
    """p: 1, 2 against 2, 3: 2 > 1, 3 > 1, 2 = 2, 3 > 2: 3 ½ of 4. q: 5 against 4: lost. 3.5 of 5 in all."""
    two = rewarded(match("p", ("a", "b"), ("cc", "d")).example(), 1, 2, 2, 3)
    one = rewarded(match("q", ("long one",), ("e",)).example(), 5, 4)
    found = report({"prompts": [two, one]}, MODEL, before={"p": 2, "q": 1})
    assert found["win_rate"].value == pytest.approx(3.5 / 5)
    assert (found["win_rate"].n, found["win_rate"].prompts) == (5, 2)
    assert found["tie_rate"].value == pytest.approx(1 / 5)
    # mean over prompts of (2 + 3)/2 − (1 + 2)/2 = 1 and 4 − 5 = −1
    assert found["reward_gain"].value == pytest.approx(0.0)
    # by length: cc beats a and b, d ties with both, e is the shorter: (2 + 1) / 5
    assert found["win_rate"].baselines == {
        "longer": pytest.approx(0.6),
        "shorter": pytest.approx(0.4),
        "chance": 0.5,
    }


def test_by_judge_in_both_orders():
    """Verdicts with after first, then with before first; FIRST is whoever was shown first."""
    said = [
        (FIRST, SECOND),  # after wins both times
        (FIRST, FIRST),  # whoever is first: turned, a tie
        (SECOND, FIRST),  # before wins both times
        (TIE, TIE),
        (FIRST, Failure.REFUSAL),  # no verdict in one order: no verdict
    ]
    pairs = [(f"p{k}", 1) for k in range(5)]
    found = judge_figures(pairs, said)
    assert found["judge_win_rate"].value == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert found["judge_win_rate"].n == 4
    assert found["judge_win_rate"].baselines["longer"] == 1.0
    assert found["judge_tie_rate"].value == 0.5
    assert found["judge_turned"].value == 0.25
    # decided: 2 + 2 + 2; shown first: 1 + 2 + 1
    assert found["judge_first"].value == pytest.approx(4 / 6)
    assert found["judge_no_verdict"].value == pytest.approx(1 / 5)


def test_without_any_verdict_there_is_no_win_rate():
    found = judge_figures([("p", 1)], [(Failure.TIMEOUT, FIRST)])
    assert set(found) == {"judge_no_verdict"}
    assert found["judge_no_verdict"].value == 1.0


def files(tmp_path: Path, count: int = 3) -> tuple[str, str]:
    for side, text in (("before", "Bad."), ("after", "A much better answer.")):
        records = [
            {"id": f"q{n}", "prompt": f"Why {n}?", "responses": [text]} for n in range(count)
        ]
        feedback_files.write(tmp_path / f"{side}.jsonl", records)
    return str(tmp_path / "before.jsonl"), str(tmp_path / "after.jsonl")


def test_files_judge_and_reward_from_the_command_on(tmp_path: Path, capsys):
    """A length-only reward and a judge of length agree; a refusal and a rate limit are no verdicts."""
    before, after = files(tmp_path)

    def longer(messages) -> str:
        a, b = re.findall(r" response [AB]>\n(.*)\n", messages[1]["content"])
        return f"One is longer.\nVerdict: {'A' if len(a) > len(b) else 'B'}"

    config = evaluate.Config(
        data=str(tmp_path),
        suite="win_rate",
        model="length",
        before=before,
        after=after,
        judge_url="set below",
        judge_model="stand-in",
        judge_concurrency=1,
        out=str(tmp_path / "out"),
    )
    script = (Status(429, {"retry-after": "0"}), Choice({"content": "", "refusal": "No."}))
    with StandInJudge(*script, answer=longer) as stand_in:
        found = evaluate.main(_at(config, stand_in.url))
        asked = len(stand_in.requests)
        assert found["win_rate"].value == 1.0
        assert found["judge_win_rate"].value == 1.0
        assert found["judge_win_rate"].n == 2
        assert found["judge_no_verdict"].value == pytest.approx(1 / 3)
        assert "1 questions without a verdict of the judge: refusal" in capsys.readouterr().err
        # the same command asks only what had no verdict
        again = evaluate.main(_at(config, stand_in.url))
        assert len(stand_in.requests) == asked + 1
    assert again["judge_win_rate"].n == 3
    assert again["judge_no_verdict"].value == 0.0
    assert again["judge_turned"].value == 0.0


def _at(config: evaluate.Config, url: str) -> evaluate.Config:
    return replace(config, judge_url=url)


def test_what_every_question_would_meet_stops_the_run(tmp_path: Path):
    before, after = files(tmp_path)
    config = evaluate.Config(
        data=str(tmp_path),
        suite="win_rate",
        before=before,
        after=after,
        judge_url="set below",
        judge_model="stand-in",
    )
    with (
        StandInJudge(Status(401), Status(401), Status(401), Status(401)) as stand_in,
        pytest.raises(ConnectionError, match="HTTP 401"),
    ):
        evaluate.main(_at(config, stand_in.url))


def test_sides_that_do_not_fit(tmp_path: Path):
    before, after = files(tmp_path)
    config = evaluate.Config(
        data=str(tmp_path), suite="win_rate", model="length", before=before, after="some/policy"
    )
    with pytest.raises(ValueError, match="give two files of responses or two policies"):
        evaluate.main(config)
    other = [{"id": "q0", "prompt": "Another?", "responses": ["x"]}]
    feedback_files.write(tmp_path / "after.jsonl", other)
    with pytest.raises(ValueError, match="prompt 'q0' is not the same"):
        evaluate.main(
            evaluate.Config(
                data=str(tmp_path), suite="win_rate", model="length", before=before, after=after
            )
        )


@pytest.mark.slow
def test_two_policies_write_and_a_policy_ties_with_itself(tmp_path: Path):
    """The same policy, prompts and seed give the same responses: every comparison of the k-th ones is a tie."""
    policy = tmp_path / "policy"
    pico_ppo.policy(policy)
    prompts = feedback_files.write(
        tmp_path / "prompts.jsonl", [{"id": f"q{n}", "prompt": "why ?"} for n in range(3)]
    )
    config = evaluate.Config(
        data=str(tmp_path),
        suite="win_rate",
        model="length",
        before=str(policy),
        after=str(policy),
        prompts=(str(prompts),),
        responses_per_prompt=2,
        max_new_tokens=6,
        temperature=0.0,
    )
    found = evaluate.main(config)
    assert found["win_rate"].value == 0.5
    assert found["tie_rate"].value == 1.0
    assert found["reward_gain"].value == 0.0
    with pytest.raises(FileNotFoundError, match="two policies need prompts"):
        evaluate.main(replace(config, prompts=()))


def test_intervals_are_over_prompts():
    """Sixteen equal comparisons of one prompt are one observation: with another they span all of 0 … 1."""
    many = rewarded(match("p", ("a",) * 4, ("b",) * 4).example(), *[0.0] * 4, *[1.0] * 4)
    other = rewarded(match("q", ("a",) * 4, ("b",) * 4).example(), *[1.0] * 4, *[0.0] * 4)
    found = report({"prompts": [many, other]}, MODEL, before={"p": 4, "q": 4})
    assert np.isclose([found["win_rate"].low, found["win_rate"].high], [0, 1]).all()
