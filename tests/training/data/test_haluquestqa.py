import corpus_files
import feedback_files
import pytest

from tureen.text.segments import Span
from tureen_training.data.haluquestqa import read_answers, read_sentences
from tureen_training.data.jsonl import BadData
from tureen_training.data.records import Comparison, Pair, SpanLabels, Tie


def test_spans_by_aspect_of_both_answers(tmp_path):
    path = feedback_files.write(tmp_path / "h.jsonl", [corpus_files.haluquestqa(0)])
    (example,) = read_answers(path, "h")
    first, second = example.responses
    assert first[7:21] == "Also the view."
    assert example.spans == {
        "factuality": (SpanLabels(), SpanLabels(errors=(Span(0, 19),))),
        "relevance": (SpanLabels(errors=(Span(7, 21),)), SpanLabels()),
        # something is missing, but where it is could not be found: no unit says anything
        "completeness": (SpanLabels(ignored=(Span(0, 21),)), SpanLabels()),
    }
    assert example.verdicts == {
        "factuality": (True, False),
        "relevance": (False, True),
        "completeness": (False, True),
    }
    assert second.startswith("Foxes cannot climb.")
    assert example.pairs == {
        Comparison.PREFERENCE: (Pair(1, 0, rater="expert"),),
        Comparison.COVERAGE: (Pair(1, 0, 0.0, "expert"),),  # 1.0 for the model, 0.5 for the human
    }


def test_the_scores_follow_the_author_not_the_place(tmp_path):
    record = corpus_files.haluquestqa(0)
    record["answers"].reverse()
    record["errors"] = []
    path = feedback_files.write(tmp_path / "h.jsonl", [record])
    (example,) = read_answers(path, "h")
    assert example.pairs[Comparison.COVERAGE] == (Pair(0, 1, 0.0, "expert"),)
    record["scores"]["human"]["completeness"] = 1.0
    (example,) = read_answers(feedback_files.write(path, [record]), "h")
    assert example.pairs[Comparison.COVERAGE] == ()
    assert example.ties[Comparison.COVERAGE] == (Tie(0, 1, "expert"),)


def test_incomplete_sentences(tmp_path):
    path = feedback_files.write(tmp_path / "s.jsonl", [corpus_files.haluquestqa_sentences(3)])
    (example,) = read_sentences(path, "s")
    assert example.prompt == "Why 3?"
    assert example.responses == ("Foxes cannot climb. It is safe.",)
    assert example.spans == {"completeness": (SpanLabels(errors=(Span(20, 31),)),)}
    assert example.verdicts == {"completeness": (False,)}


@pytest.mark.parametrize(
    ("reader", "record", "changes", "problem"),
    [
        (read_answers, "haluquestqa", {"preferred": 2}, "'preferred' must be 0 or 1, got 2"),
        (read_answers, "haluquestqa", {"answers": []}, "'answers' must be two, got 0"),
        (read_answers, "haluquestqa", {"scores": {}}, "scores: field 'human' is missing"),
        (
            read_answers,
            "haluquestqa",
            {"errors": [{"aspect": "style", "target": "answer1", "offsets": None}]},
            r"errors\[0\]: 'aspect' is 'style'; known",
        ),
        (
            read_answers,
            "haluquestqa",
            {"errors": [{"aspect": "factuality", "target": "answer1", "offsets": [0, 99]}]},
            r"errors\[0\]: span \[0, 99\) does not lie in answer1 of 21 characters",
        ),
        (
            read_answers,
            "haluquestqa",
            {"errors": [{"aspect": "factuality", "target": "answer1"}]},
            r"errors\[0\]: field 'offsets' is missing",
        ),
        (
            read_sentences,
            "haluquestqa_sentences",
            {"output": "1. [Complete]"},
            "'input' has 2 numbered sentences and 'output' 1 verdicts",
        ),
        (
            read_sentences,
            "haluquestqa_sentences",
            {"input": "Why?\nAnswer: 1. So."},
            "'input' must be 'Question: …'",
        ),
        (
            read_sentences,
            "haluquestqa_sentences",
            {"input": "Question: Why?\nAnswer: So.", "output": "So."},
            "'input' has 0 numbered sentences and 'output' 0 verdicts",
        ),
    ],
)
def test_a_bad_record_is_named(tmp_path, reader, record, changes, problem):
    make = corpus_files.RECORDS[record]
    path = feedback_files.write(tmp_path / "bad.jsonl", [make(0), make(1) | changes])
    with pytest.raises(BadData, match=rf"bad\.jsonl:2: {problem}"):
        list(reader(path, "h"))
