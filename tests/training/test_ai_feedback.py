"""The stage against a stand-in judge that prefers long responses and misbehaves on request."""

import json
from pathlib import Path

import pytest
from stand_in_judge import Hang, StandInJudge, Status

from tureen_training.ai_feedback import Config, main
from tureen_training.data.corpora import open_file
from tureen_training.data.records import Comparison

RECORDS = [
    {"id": "q1", "prompt": "Why?", "responses": ["Because.", "Because it is so."]},
    {
        "id": "q2",
        "messages": [{"role": "user", "content": "How?"}],
        "context": ["A passage."],
        "responses": ["Thus.", "By hand, and slowly."],
        "group": "g",
    },
]
LONG = 10  # characters of a response that the stand-in likes


def shown(messages) -> list[str]:
    """The responses in a question, in the order shown."""
    blocks = messages[1]["content"].split("\n\n<")
    return [b.split("\n")[1] for b in blocks if "response" in b.split(">")[0]]


def rates(messages) -> str:
    return f"Some prose about 3 things.\nRating: {5 if len(shown(messages)[0]) > LONG else 2}"


def compares(messages) -> str:
    first, second = shown(messages)
    return f"Verdict: {'A' if len(first) > len(second) else 'B'}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def config(data: Path, judge: StandInJudge, **changes) -> Config:
    fields = {
        "data": str(data),
        "rubric": "helpfulness",
        "url": judge.url,
        "model": "stand-in",
        "out": str(data.with_name("feedback.jsonl")),
        "concurrency": 1,
        "max_retries": 0,
        **changes,
    }
    return Config(**fields)


def test_ratings_come_back_as_feedback_of_our_own_format(data, capsys):
    with StandInJudge(answer=rates) as judge:
        summary = main(config(data, judge))
    assert (summary.questions, summary.verdicts, summary.records) == (4, 4, 2)
    assert summary.counts == {"2": 2, "5": 2}
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["verdicts"] == 4
    first, second = open_file(data.with_name("feedback.jsonl"), "own")
    assert [(r.response, r.value) for r in first.ratings["preference"]] == [(0, 2), (1, 5)]
    assert [(p.chosen, p.rejected) for p in first.pairs[Comparison.RATING]] == [(1, 0)]
    assert (second.context, second.group) == (("A passage.",), "g")
    assert second.messages is not None
    assert second.messages[0].content == "How?"
    rater = first.ratings["preference"][0].rater
    assert rater is not None
    assert rater.startswith("stand-in, rubric helpfulness ")


def test_comparisons_are_asked_in_both_orders(data):
    with StandInJudge(answer=compares) as judge:
        summary = main(config(data, judge, rubric="preference"))
    assert summary.questions == 4
    assert summary.position_bias is not None
    assert summary.position_bias.disagreement_rate == 0
    assert summary.position_bias.first_shown_rate == 0.5
    examples = list(open_file(data.with_name("feedback.jsonl"), "own"))
    pairs = [e.pairs[Comparison.PREFERENCE] for e in examples]
    assert [[(p.chosen, p.rejected) for p in own] for own in pairs] == [[(1, 0)], [(1, 0)]]


def test_a_judge_that_looks_at_the_order_alone_gives_ties_and_is_found_out(data):
    with StandInJudge(answer=lambda messages: "Verdict: A") as judge:
        summary = main(config(data, judge, rubric="preference"))
    assert summary.position_bias is not None
    assert summary.position_bias.disagreement_rate == 1
    assert summary.position_bias.first_shown_rate == 1
    for example in open_file(data.with_name("feedback.jsonl"), "own"):
        assert example.pairs.get(Comparison.PREFERENCE, ()) == ()
        assert len(example.ties[Comparison.PREFERENCE]) == 1


def test_failures_are_counted_by_kind_and_never_become_a_rating(data):
    script = ("I can't rate this.", "Rating: 9", Status(500))
    with StandInJudge(*script, answer=rates) as judge:
        summary = main(config(data, judge))
    assert summary.failures == {"refusal": 1, "out_of_scale": 1, "server_error": 1}
    assert (summary.verdicts, summary.records, summary.without_verdict) == (1, 1, 1)
    (example,) = open_file(data.with_name("feedback.jsonl"), "own")
    assert [(r.response, r.value) for r in example.ratings["preference"]] == [(1, 5)]


def test_the_second_run_asks_only_what_failed(data):
    with StandInJudge("nonsense", answer=rates) as judge:
        assert main(config(data, judge)).failures == {"unreadable": 1}
        asked = len(judge.requests)
        summary = main(config(data, judge))
        assert len(judge.requests) == asked + 1
        assert (summary.known_before, summary.verdicts, summary.failures) == (3, 4, {})
        main(config(data, judge))
        assert len(judge.requests) == asked + 1


def test_a_run_that_was_killed_in_the_middle_of_a_line_goes_on(data):
    with StandInJudge(answer=rates) as judge:
        main(config(data, judge))
        whole = data.with_name("feedback.jsonl").read_text()
        journal = data.with_name("feedback.jsonl.verdicts.jsonl")
        journal.write_bytes(journal.read_bytes()[:-20])
        summary = main(config(data, judge))
    assert summary.known_before == 3
    assert data.with_name("feedback.jsonl").read_text() == whole


def test_another_judge_or_rubric_is_asked_anew(data):
    with StandInJudge(answer=rates) as judge:
        main(config(data, judge))
        assert main(config(data, judge, model="other")).known_before == 0
        assert main(config(data, judge, rubric="factuality")).known_before == 0


def test_a_permission_that_is_missing_ends_the_run_and_keeps_what_was_judged(data):
    with StandInJudge("Rating: 4", Status(401)) as judge:
        with pytest.raises(ConnectionError, match=r"401.*kept"):
            main(config(data, judge))
        assert len(judge.requests) == 2
        assert not data.with_name("feedback.jsonl").exists()
        judge.answer = rates
        assert main(config(data, judge)).known_before == 1


def test_the_key_comes_from_the_environment_and_is_written_nowhere(data, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with StandInJudge(answer=rates) as judge:
        main(config(data, judge, api_key_env="MY_KEY"))
    assert {h["authorization"] for h in judge.headers} == {"Bearer sk-very-secret"}
    captured = capsys.readouterr()
    written = "".join(path.read_text() for path in data.parent.iterdir())
    assert "secret" not in captured.out + captured.err + written


def test_no_verdict_at_all_is_an_error_and_no_file(data):
    with (
        StandInJudge(Hang(), answer=lambda _: "no idea") as judge,
        pytest.raises(ValueError, match=r"none of 4 questions.*timeout.*unreadable"),
    ):
        main(config(data, judge, timeout_s=1.0))
    assert not data.with_name("feedback.jsonl").exists()


def test_a_scale_that_feedback_files_do_not_hold_is_refused(data, tmp_path):
    rubric = tmp_path / "ten.yaml"
    rubric.write_text("name: ten\nkind: rating\ninstructions: x\nscale: {0: a, 1: b}\n")
    with StandInJudge() as judge, pytest.raises(ValueError, match="from 0 to 1; feedback files"):
        main(config(data, judge, rubric=str(rubric)))
