"""The client against a real HTTP server that misbehaves."""

import socket
import threading
from datetime import UTC, datetime

import pytest
from stand_in_judge import Body, Choice, Hang, StandInJudge, Status

from tureen.client.flow import Retry
from tureen_training.judge.client import Judge, Verdict, retry_after_s
from tureen_training.judge.errors import Failure, JudgeError

QUESTION = [{"role": "user", "content": "How good is it?"}]
KEY = "sk-very-secret"


def judge_of(stand_in: StandInJudge, **settings) -> Judge:
    """Never really waits: pauses are recorded."""
    settings = {"retry": Retry(max_retries=2), "wait": lambda seconds: None, **settings}
    return Judge(stand_in.url, "stand-in", draw=lambda: 0.5, **settings)


def failure_of(stand_in: StandInJudge, **settings) -> JudgeError:
    with judge_of(stand_in, **settings) as judge, pytest.raises(JudgeError) as caught:
        judge.ask(QUESTION)
    return caught.value


def test_a_question_and_its_answer():
    with (
        StandInJudge("Well done.\nRating: 5") as stand_in,
        judge_of(stand_in, api_key=KEY) as judge,
    ):
        verdict = judge.ask(QUESTION)
    assert verdict == Verdict(
        text="Well done.\nRating: 5",
        model="stand-in",
        prompt_tokens=11,
        completion_tokens=3,
        attempts=1,
    )
    assert stand_in.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "stand-in",
            "messages": QUESTION,
            "temperature": 0.0,
            "max_tokens": 512,
        }
    ]
    assert stand_in.headers[0]["authorization"] == f"Bearer {KEY}"


def test_without_a_key_nothing_is_sent_in_its_place():
    with StandInJudge() as stand_in, judge_of(stand_in) as judge:
        judge.ask(QUESTION)
    assert "authorization" not in stand_in.headers[0]


def test_a_rate_limit_is_waited_for_as_long_as_it_says():
    pauses: list[float] = []
    limit = Status(429, {"retry-after": "7"})
    with (
        StandInJudge(limit, limit) as stand_in,
        judge_of(stand_in, wait=pauses.append) as judge,
    ):
        assert judge.ask(QUESTION).attempts == 3
    assert pauses == [pytest.approx(7.1), pytest.approx(7.1)]  # and half of the 0.2 s of backoff


def test_without_a_hint_pauses_double():
    pauses: list[float] = []
    with (
        StandInJudge(Status(503), Status(500)) as stand_in,
        judge_of(stand_in, wait=pauses.append) as judge,
    ):
        judge.ask(QUESTION)
    assert pauses == [pytest.approx(0.15), pytest.approx(0.3)]


def test_a_wait_that_is_too_long_is_an_error_at_once():
    with StandInJudge(Status(429, {"retry-after": "3600"})) as stand_in:
        error = failure_of(stand_in)
    assert error.failure is Failure.RATE_LIMITED
    assert error.retry_after_s == 3600
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    ("step", "failure", "attempts"),
    [
        (Status(429), Failure.RATE_LIMITED, 3),
        (Status(500), Failure.SERVER_ERROR, 3),
        (Status(504), Failure.TIMEOUT, 3),
        (Body(b'{"choices": [{"mess'), Failure.BROKEN_RESPONSE, 3),
        (Body(b'{"choices": [{"mess', missing=50), Failure.BROKEN_RESPONSE, 3),
        (Body(b"[]"), Failure.BROKEN_RESPONSE, 3),
        (Body(b'{"choices": []}'), Failure.BROKEN_RESPONSE, 3),
        (Body(b'{"choices": [{"message": null}]}'), Failure.BROKEN_RESPONSE, 3),
        (Body(b"\xff\xfe"), Failure.BROKEN_RESPONSE, 3),
        (Choice({"content": ["parts"]}), Failure.BROKEN_RESPONSE, 3),
        (Status(400), Failure.REJECTED, 1),
        (Status(302, {"location": "/elsewhere"}), Failure.REJECTED, 1),
        (Status(401), Failure.DENIED, 1),
        (Status(404), Failure.NOT_FOUND, 1),
        (Choice({"content": ""}), Failure.EMPTY, 1),
        (Choice({"content": None}), Failure.EMPTY, 1),
        (Choice({"content": None, "refusal": "I won't."}), Failure.REFUSAL, 1),
        (Choice({"content": "Rating: 4"}, "content_filter"), Failure.REFUSAL, 1),
        (Choice({"content": "Rating: 4"}, "length"), Failure.CUT_OFF, 1),
    ],
)
def test_what_goes_wrong_has_a_name_and_only_what_may_pass_is_tried_again(step, failure, attempts):
    with StandInJudge(step, step, step) as stand_in:
        error = failure_of(stand_in)
    assert error.failure is failure
    assert len(stand_in.requests) == attempts
    assert ("(3 attempts)" in str(error)) == (attempts == 3)


def test_a_judge_that_does_not_answer_is_a_timeout():
    with StandInJudge(Hang()) as stand_in:
        error = failure_of(stand_in, timeout_s=0.2, retry=Retry(max_retries=0))
    assert error.failure is Failure.TIMEOUT


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with (
        Judge(url, "stand-in", retry=Retry(max_retries=0)) as judge,
        pytest.raises(JudgeError, match=url) as caught,
    ):
        judge.ask(QUESTION)
    assert caught.value.failure is Failure.UNREACHABLE


def test_the_key_is_never_shown():
    body = '{"error": {"message": "Incorrect API key provided: ' + KEY + '"}}'
    with StandInJudge(Status(401, body=body)) as stand_in:
        error = failure_of(stand_in, api_key=KEY)
        with judge_of(stand_in, api_key=KEY) as judge:
            assert KEY not in repr(judge)
    assert KEY not in str(error)
    assert "[api key]" in str(error)


def test_many_questions_a_few_at_once():
    both = threading.Barrier(2)

    def answer(messages):
        both.wait(10)  # only two questions under way together get on
        return f"Rating: {messages[0]['content']}"

    questions = [[{"role": "user", "content": str(number)}] for number in range(6)]
    with StandInJudge(answer=answer) as stand_in, judge_of(stand_in, concurrency=2) as judge:
        outcomes = dict(judge.ask_all(questions))
    assert {i: o.text for i, o in outcomes.items() if isinstance(o, Verdict)} == {
        number: f"Rating: {number}" for number in range(6)
    }
    assert stand_in.most_at_once == 2


def test_one_bad_question_is_one_error():
    with (
        StandInJudge("Rating: 1", Status(400)) as stand_in,
        judge_of(stand_in, concurrency=1) as judge,
    ):
        outcomes = dict(judge.ask_all([QUESTION] * 3))
    assert [type(outcomes[i]) for i in range(3)] == [Verdict, JudgeError, Verdict]


def test_what_every_question_would_meet_ends_the_asking():
    with (
        StandInJudge(*[Status(403)] * 9) as stand_in,
        judge_of(stand_in, concurrency=1) as judge,
        pytest.raises(JudgeError) as caught,
    ):
        list(judge.ask_all([QUESTION] * 9))
    assert caught.value.failure is Failure.DENIED
    assert len(stand_in.requests) == 1


def test_retry_after_is_a_number_or_a_date():
    now = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("30", now) == 30
    assert retry_after_s("Fri, 01 May 2026 12:00:45 GMT", now) == 45
    assert retry_after_s("Fri, 01 May 2026 11:00:00 GMT", now) == 0
    assert retry_after_s("soon", now) is None
    assert retry_after_s(None, now) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "give one such as"),
        ({"concurrency": 0}, "at least 1"),
        ({"timeout_s": 0.0}, "positive"),
    ],
)
def test_bad_settings_say_what_to_give(settings, message):
    with pytest.raises(ValueError, match=message):
        Judge(**{"url": "http://localhost", "model": "m", **settings})
