from collections import Counter

import corpus_files
import feedback_files
import pytest

from tureen.contracts import Message
from tureen_training.data.jsonl import BadData
from tureen_training.data.ranked import (
    read_alpaca,
    read_pandalm,
    read_prometheus,
    read_tulu,
    read_vicuna80,
)
from tureen_training.data.records import Comparison, Pair, Rating, Tie

PREFERENCE = Comparison.PREFERENCE


def read(reader, tmp_path, record, skipped=None):
    skipped = Counter() if skipped is None else skipped
    return list(reader(feedback_files.write(tmp_path / "r.jsonl", [record]), skipped, "r"))


def test_pandalm_keeps_its_three_annotators(tmp_path):
    (example,) = read(read_pandalm, tmp_path, corpus_files.pandalm(0))
    assert example.responses == ("A gull.", "A tern.", "A plane.")
    assert example.pairs[PREFERENCE] == (
        Pair(0, 1, rater="annotator_1"),
        Pair(1, 0, rater="annotator_2"),
        Pair(0, 2, rater="annotator_1"),
        Pair(0, 2, rater="annotator_2"),
        Pair(0, 2, rater="annotator_3"),
    )
    assert example.ties[PREFERENCE] == (Tie(0, 1, "annotator_3"),)


def test_tulu_keeps_annotators_and_grades(tmp_path):
    (example,) = read(read_tulu, tmp_path, corpus_files.tulu(0))
    # Llama 2's smaller margins: a third for slightly better, two thirds for better
    assert example.pairs[PREFERENCE] == (
        Pair(0, 1, 1 / 3, "ann"),
        Pair(1, 0, 2 / 3, "bob"),
    )
    assert example.ties[PREFERENCE] == (Tie(1, 2, "bob"),)


def test_a_verdict_nobody_could_read_is_counted(tmp_path):
    skipped: Counter[str] = Counter()
    (example,) = read(read_vicuna80, tmp_path, corpus_files.vicuna80(0), skipped)
    assert example.pairs[PREFERENCE] == (Pair(0, 1, rater="gpt-4"),)
    assert example.ties[PREFERENCE] == (Tie(1, 2, "gpt-4"),)
    assert skipped == {"unreadable verdict": 1}


def test_a_blank_response_takes_its_judgments_with_it(tmp_path):
    record = corpus_files.pandalm(0)
    record["responses"][1]["text"] = " "
    skipped: Counter[str] = Counter()
    (example,) = read(read_pandalm, tmp_path, record, skipped)
    assert example.responses == ("A gull.", "A plane.")
    assert example.pairs[PREFERENCE] == tuple(Pair(0, 1, rater=f"annotator_{i}") for i in (1, 2, 3))
    assert skipped == {"blank response": 1, "judgment of a blank response": 3}
    for response in record["responses"]:
        response["text"] = ""
    skipped.clear()
    assert read(read_pandalm, tmp_path, record, skipped) == []
    assert skipped == {"blank response": 3, "prompt without a response": 1}


def test_alpaca_scores_closer_than_a_hundredth_are_ties(tmp_path):
    (example,) = read(read_alpaca, tmp_path, corpus_files.alpaca(0))
    assert example.pairs[PREFERENCE] == (Pair(0, 2, rater="gpt-4"), Pair(1, 2, rater="gpt-4"))
    assert example.ties[PREFERENCE] == (Tie(0, 1, "gpt-4"),)


def test_alpaca_without_a_score(tmp_path):
    skipped: Counter[str] = Counter()
    record = corpus_files.ranked(0, [], score=[0.9, None, 0.2])
    (example,) = read(read_alpaca, tmp_path, record, skipped)
    assert example.responses == ("A gull.", "A plane.")
    assert example.pairs[PREFERENCE] == (Pair(0, 1, rater="gpt-4"),)
    assert +skipped == {"response without a score": 1}


def test_prometheus_marks(tmp_path):
    (example,) = read(read_prometheus, tmp_path, corpus_files.prometheus(0))
    one, two = "gpt-4, sample 1", "gpt-4, sample 2"
    assert example.ratings["preference"] == (
        Rating(0, 5, one),
        Rating(0, 4, two),
        Rating(1, 5, one),
        Rating(1, 2, two),
        Rating(2, 1, one),
        Rating(2, 1, two),
    )
    # the margin is the share of the scale, which is 4 marks wide
    assert example.pairs[Comparison.RATING] == (
        Pair(0, 2, 1.0, one),
        Pair(1, 2, 1.0, one),
        Pair(0, 1, 0.5, two),
        Pair(0, 2, 0.75, two),
        Pair(1, 2, 0.25, two),
    )
    assert example.ties[Comparison.RATING] == (Tie(0, 1, one),)


def test_second_turns_have_each_their_own_dialogue(tmp_path):
    dialogues = [
        f"A dialogue.\nUser: Name a bird.\n\nAssistant:{text}\n\nUser: Another.\n\nAssistant: "
        for text in ("Gull.", "Tern.", "Auk.")
    ]
    record = corpus_files.ranked(0, [], ratings=[[5], [4], [3]], context=dialogues)
    examples = read(read_prometheus, tmp_path, record)
    assert [e.prompt_id for e in examples] == ["p-0-r0", "p-0-r1", "p-0-r2"]
    assert {e.group for e in examples} == {"name bird 0."}
    second = examples[1]
    assert second.messages == (
        Message(role="user", content="Name a bird."),
        Message(role="assistant", content="Tern."),
        Message(role="user", content="Another."),
    )
    assert (second.responses, second.pairs) == (("A tern.",), {})
    assert second.ratings == {"preference": (Rating(0, 4, "gpt-4, sample 1"),)}


@pytest.mark.parametrize(
    ("reader", "record", "problem"),
    [
        (
            read_pandalm,
            corpus_files.ranked(1, [{"a": "r0", "b": "r9", "labels": [1]}]),
            r"judgments\[0\]: 'b' is 'r9'; known: r0, r1, r2",
        ),
        (
            read_pandalm,
            corpus_files.ranked(1, [{"a": "r0", "b": "r0", "labels": [1]}]),
            r"judgments\[0\]: 'a' and 'b' are the same response",
        ),
        (
            read_pandalm,
            corpus_files.ranked(1, [{"a": "r0", "b": "r1", "labels": [3]}]),
            r"judgments\[0\]: a label must be 1, 2, or 0 for a tie, got 3",
        ),
        (
            read_pandalm,
            corpus_files.ranked(1, [{"a": "r0", "b": "r1", "labels": ["1"]}]),
            r"judgments\[0\]: labels\[0\] must be int, got str",
        ),
        (
            read_tulu,
            corpus_files.ranked(1, [{"a": "r0", "b": "r1", "preference": "a", "annotator": "ann"}]),
            r"judgments\[0\]: 'preference' is 'a'; known: a-is-better",
        ),
        (
            read_prometheus,
            corpus_files.ranked(1, [], ratings=[[1], [6], [2]]),
            r"responses\[1\]: ratings go from 1 to 5, got 6",
        ),
        (
            read_prometheus,
            corpus_files.ranked(1, [], ratings=[[1], [2], [2]], context=["Hm.", "Hm.", "Hm."]),
            r"responses\[0\]: 'context' must be a dialogue that ends in a turn of User",
        ),
        (
            read_alpaca,
            corpus_files.ranked(1, [], score=[1.0, "0.5", 0.0]),
            r"responses\[1\]: 'score' must be float, got str",
        ),
        (
            read_alpaca,
            corpus_files.ranked(1, [], response_id=["r0", "r1", "r0"]),
            r"responses\[2\]: response_id 'r0' comes twice",
        ),
    ],
)
def test_a_bad_record_is_named(tmp_path, reader, record, problem):
    good = {
        read_tulu: corpus_files.tulu,
        read_prometheus: corpus_files.prometheus,
        read_alpaca: corpus_files.alpaca,
    }.get(reader, corpus_files.pandalm)(0)
    path = feedback_files.write(tmp_path / "bad.jsonl", [good, record])
    with pytest.raises(BadData, match=rf"bad\.jsonl:2: {problem}"):
        list(reader(path, Counter(), "r"))
