import json
from pathlib import Path

import corpus_files
import feedback_files
import pytest

from tureen.contracts import Message
from tureen.text.segments import Span
from tureen_training.data.jsonl import BadData
from tureen_training.data.own import read_own
from tureen_training.data.records import Comparison, Pair, Rating, SpanLabels, Tie

BARE = {"id": "q", "prompt": "?", "responses": ["a b c", "d e f"]}


def read(tmp_path, *records):
    return list(read_own(feedback_files.write(tmp_path / "own.jsonl.gz", list(records)), "own"))


def test_every_kind_of_feedback_meets_in_one_example(tmp_path):
    (example,) = read(tmp_path, corpus_files.own(0) | {"context": ["Evidence."], "group": "g"})
    assert (example.prompt_id, example.prompt, example.group) == ("own-0", "Name a bird.", "g")
    assert example.context == ("Evidence.",)
    assert example.pairs == {
        Comparison.PREFERENCE: (Pair(0, 2, 0.5, "ann"), Pair(1, 2, 0.5, "ann")),
        Comparison.COVERAGE: (Pair(1, 2, 0.0, "bob"),),
        Comparison.RATING: (Pair(0, 2, 1.0, "ann"),),
    }
    assert example.ties == {
        Comparison.PREFERENCE: (Tie(0, 1, "ann"), Tie(0, 1)),
        Comparison.COVERAGE: (),
        Comparison.RATING: (),
    }
    assert example.ratings == {"preference": (Rating(0, 5, "ann"), Rating(2, 1, "ann"))}
    assert example.spans == {
        "factuality": (
            SpanLabels(ignored=(Span(0, 1),)),
            None,
            SpanLabels(errors=(Span(2, 7),)),
        )
    }


def test_a_dialogue(tmp_path):
    record = {
        "id": "d",
        "messages": [{"role": "user", "content": "Hi."}],
        "responses": ["Hello.", "What?"],
        "rankings": [{"ranks": [1, 2]}],
    }
    (example,) = read(tmp_path, record)
    assert (example.prompt, example.messages) == (None, (Message(role="user", content="Hi."),))
    assert example.pairs == {Comparison.PREFERENCE: (Pair(0, 1),)}


def test_marks_of_another_head_are_no_preference(tmp_path):
    ratings = [
        {"response": 1, "value": 2, "head": "helpfulness"},
        {"response": 0, "value": 4.5, "head": "helpfulness"},
    ]
    (example,) = read(tmp_path, BARE | {"ratings": ratings})
    assert example.ratings == {"helpfulness": (Rating(1, 2), Rating(0, 4.5))}
    assert example.pairs == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "no feedback; give one or more of rankings, pairs, ties, ratings, spans"),
        ({"ranking": []}, "unknown field 'ranking'; did you mean 'rankings'"),
        ({"messages": []}, "a record has exactly one of 'prompt' and 'messages'"),
        ({"responses": []}, "'responses' is empty"),
        ({"responses": ["a", " "]}, r"responses\[1\] is blank"),
        ({"rankings": {}}, "no feedback"),
        ({"rankings": [[1, 2]]}, r"rankings\[0\]: expected an object"),
        ({"rankings": [{"ranks": [1]}]}, r"rankings\[0\]: 'ranks' must be one a response, 2"),
        ({"rankings": [{"ranks": [1, 1.5]}]}, r"rankings\[0\]: ranks\[1\] must be int"),
        (
            {"rankings": [{"ranks": [1, 2], "margin": -1}]},
            r"rankings\[0\]: 'margin' must be at least 0, got -1",
        ),
        ({"rankings": [{"ranks": [1, 2], "order": []}]}, r"rankings\[0\]: unknown field 'order'"),
        ({"pairs": [{"chosen": 0}]}, r"pairs\[0\]: field 'rejected' is missing"),
        ({"pairs": [{"chosen": 0, "rejected": 2}]}, r"pairs\[0\]: 'rejected' is 2, but there"),
        ({"pairs": [{"chosen": -1, "rejected": 0}]}, r"pairs\[0\]: 'chosen' is -1, but there"),
        ({"pairs": [{"chosen": 1, "rejected": 1}]}, r"pairs\[0\]: 'chosen' and 'rejected' are"),
        (
            {"pairs": [{"chosen": 0, "rejected": 1, "kind": "taste"}]},
            r"pairs\[0\]: 'kind' is 'taste'; known: completion, correction",
        ),
        ({"ties": [{"first": 0, "second": 0}]}, r"ties\[0\]: 'first' and 'second' are the same"),
        ({"ratings": [{"response": 0, "value": 6}]}, r"ratings\[0\]: 'value' goes from 1 to 5"),
        ({"ratings": [{"response": 0, "value": "4"}]}, r"ratings\[0\]: 'value' must be float"),
        (
            {"ratings": [{"response": 0, "value": 4}, {"response": 0, "value": 3}]},
            r"ratings\[1\]: rater None already marked response 0",
        ),
        ({"spans": {"f": [[]]}}, "spans: 'f' must be one list or null a response, 2 of them"),
        ({"spans": {"f": [[[0, 6]], []]}}, r"spans: span \[0, 6\) does not lie in responses\[0\]"),
        ({"spans": {"f": [[3], []]}}, r"spans: a span must be \[start, end\]"),
        ({"spans": {"f": [3, []]}}, r"spans: f\[0\] must be a list"),
        (
            {"spans": {"f": [[], []]}, "ignored": {"g": [[], []]}},
            "'ignored' speaks of head 'g', but 'spans' does not",
        ),
        (
            {"spans": {"f": [None, []]}, "ignored": {"f": [[[0, 1]], []]}},
            "'ignored' of f marks response 0, but 'spans' has null",
        ),
    ],
)
def test_a_bad_record_is_named(tmp_path, changes, problem):
    with pytest.raises(BadData, match=rf"own\.jsonl\.gz:2: {problem}"):
        read(tmp_path, corpus_files.own(0), BARE | changes)


def test_messages_end_before_the_response(tmp_path):
    messages = [{"role": "assistant", "content": "Hi."}]
    record = {k: v for k, v in BARE.items() if k != "prompt"} | {"messages": messages}
    with pytest.raises(BadData, match="'messages' must end before the response"):
        read(tmp_path, record | {"ties": [{"first": 0, "second": 1}]})


def test_the_handbook_shows_a_record_that_is_read(tmp_path):
    text = (Path(__file__).parents[3] / "training" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Your own data") :]
    block = section[section.index("```json\n") + 8 :]
    record = json.loads(block[: block.index("```")])
    (example,) = read(tmp_path, record)
    assert set(example.pairs) == {Comparison.PREFERENCE, Comparison.RATING}
    assert example.spans
