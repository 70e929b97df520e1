import pickle

import pytest

from tureen_training.judge.errors import Failure, JudgeError
from tureen_training.judge.parsing import (
    parse_choice,
    parse_finding,
    parse_optional_rating,
    parse_rating,
)

CHOICES = {"A": 1, "B": -1, "tie": 0}


@pytest.mark.parametrize(
    "text",
    [
        "Rating: 4",
        "4",
        " 4.\n",
        "4/5",
        "It answers 2 of 3 questions, in 1990 words.\n\nRating: 4",
        "Rating: 4\nI hope this helps with your 3 responses!",
        "**Rating:** 4",
        "### RATING = 4/5.",
        "> `Rating: 4`",
        "Rating: 4\nTo repeat it:\nrating: 4",
        "I'm sorry to say it is not perfect.\nRating: 4",
        "Rating: 4.0",
    ],
)
def test_ratings_that_the_rule_covers(text):
    assert parse_rating(text, 1, 5) == 4


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", Failure.EMPTY),
        (" \n\t", Failure.EMPTY),
        ("I would give it a 4.", Failure.UNREADABLE),
        ("I would give it a rating: 4 out of 5", Failure.UNREADABLE),
        ("Rating: four", Failure.UNREADABLE),
        ("Rating: 4 or 5", Failure.UNREADABLE),
        ("Rating: 4-5", Failure.UNREADABLE),
        ("Rating:", Failure.UNREADABLE),
        ("Score: 4", Failure.UNREADABLE),
        ("{'rating': 4}", Failure.UNREADABLE),
        ("Four of 5", Failure.UNREADABLE),
        ("I'm sorry, but I can't rate this response.", Failure.REFUSAL),
        ("I cannot help with that request.", Failure.REFUSAL),
        ("As an AI, I have no opinion.", Failure.REFUSAL),
        ("Rating: 4\nOn reflection:\nRating: 2", Failure.CONTRADICTORY),
        ("Rating: 6", Failure.OUT_OF_SCALE),
        ("Rating: 0", Failure.OUT_OF_SCALE),
        ("Rating: -4", Failure.OUT_OF_SCALE),
        ("Rating: 4.5", Failure.OUT_OF_SCALE),
        ("Rating: 4/10", Failure.OUT_OF_SCALE),
        ("Rating: 1e0", Failure.UNREADABLE),
        ("Rating: nan", Failure.UNREADABLE),
        ("Rating: " + "9" * 400, Failure.OUT_OF_SCALE),
    ],
)
def test_everything_else_is_an_error_with_a_name(text, failure):
    with pytest.raises(JudgeError) as caught:
        parse_rating(text, 1, 5)
    assert caught.value.failure is failure


def test_several_verdicts_stand_under_their_names():
    text = "Factuality: 2\nReadability: 5"
    assert parse_rating(text, 1, 5, name="Readability") == 5
    assert parse_rating(text, 1, 5, name="Factuality") == 2


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A is longer, B is right.\nVerdict: B", -1),
        ("verdict: a.", 1),
        ("**Verdict: Tie**", 0),
        ("B", -1),
    ],
)
def test_choices(text, verdict):
    assert parse_choice(text, CHOICES) == verdict


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Verdict: C", Failure.OUT_OF_SCALE),
        ("Verdict: A and B", Failure.UNREADABLE),
        ("Response A is better.", Failure.UNREADABLE),
        ("Verdict: A\nVerdict: B", Failure.CONTRADICTORY),
        ("I won't compare these.", Failure.REFUSAL),
    ],
)
def test_no_choice_is_an_error(text, failure):
    with pytest.raises(JudgeError) as caught:
        parse_choice(text, CHOICES)
    assert caught.value.failure is failure


def test_the_message_shows_where_the_verdict_should_be():
    with pytest.raises(JudgeError, match=r"'Rating: …' with 1 to 5 .* 600 characters: '…x+'"):
        parse_rating("x" * 600, 1, 5)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(JudgeError(Failure.EMPTY, "nothing", retry_after_s=2.0)))
    assert (error.failure, error.message, error.retry_after_s) == (Failure.EMPTY, "nothing", 2.0)


@pytest.mark.parametrize("text", ["Score: N/A", "score: n/a.", "**Score: Not applicable**", "N/A"])
def test_what_does_not_apply_is_no_number(text):
    assert parse_optional_rating(text, 1, 5, "Score") is None


def test_an_optional_rating_is_read_as_strictly():
    assert parse_optional_rating("Score: 4", 1, 5, "Score") == 4
    for text, failure in (("Score: none", Failure.UNREADABLE), ("Score: 0", Failure.OUT_OF_SCALE)):
        with pytest.raises(JudgeError) as caught:
            parse_optional_rating(text, 1, 5, "Score")
        assert caught.value.failure == failure


def test_a_finding_and_its_reason():
    text = "Part 1: bad - twice - and thrice\nPart 2: OK"
    assert parse_finding(text, "Part 1", ("ok", "bad")) == ("bad", "twice - and thrice")
    assert parse_finding(text, "Part 2", ("ok", "bad")) == ("ok", "")
    for text, failure in (
        ("Part 1: ugly", Failure.OUT_OF_SCALE),
        ("Part 1: not bad at all", Failure.UNREADABLE),
        ("Part 2: ok", Failure.UNREADABLE),
    ):
        with pytest.raises(JudgeError) as caught:
            parse_finding(text, "Part 1", ("ok", "bad"))
        assert caught.value.failure == failure
