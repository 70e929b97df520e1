import corpus_files
import feedback_files
import pytest

from tureen.text.segments import Span
from tureen_training.data.halueval import read_general, read_qa
from tureen_training.data.jsonl import BadData
from tureen_training.data.records import Comparison, Pair, SpanLabels


def general(tmp_path, **changes):
    record = corpus_files.halueval_general(0) | changes
    path = feedback_files.write(tmp_path / "general.jsonl", [record])
    return next(iter(read_general(path, "halueval")))


def without_ids(record, *names):
    return {name: value for name, value in record.items() if name not in names}


def test_a_quotation_is_an_error_span(tmp_path):
    example = general(tmp_path)
    assert example.responses == ("Anna Berg did. She was ten.",)
    assert example.spans == {"factuality": (SpanLabels(errors=(Span(15, 27),)),)}
    assert example.verdicts == {"factuality": (False,)}


def test_an_answer_without_hallucination_is_clean(tmp_path):
    example = general(tmp_path, hallucination="no", hallucination_spans=[], span_offsets=[])
    assert example.spans == {"factuality": (SpanLabels(),)}
    assert example.verdicts == {"factuality": (True,)}


@pytest.mark.parametrize(
    ("spans", "offsets", "errors"),
    [
        (["She was ten.", "a comment"], [[15, 27], None], (Span(15, 27),)),
        (["a comment"], [None], ()),
        ([], [], ()),
    ],
)
def test_where_a_place_is_unknown_the_rest_says_nothing(tmp_path, spans, offsets, errors):
    example = general(tmp_path, hallucination_spans=spans, span_offsets=offsets)
    expected = SpanLabels(errors=errors, ignored=(Span(0, 27),))
    assert example.spans == {"factuality": (expected,)}
    assert example.verdicts == {"factuality": (False,)}


def test_the_release_has_neither_ids_nor_offsets(tmp_path):
    record = corpus_files.halueval_general(0) | {
        "hallucination_spans": ["She was ten.", "a comment"]
    }
    path = feedback_files.write(
        tmp_path / "general_data.jsonl", [without_ids(record, "record_id", "span_offsets")] * 2
    )
    first, second = read_general(path, "halueval")
    assert (first.prompt_id, second.prompt_id) == (
        "halueval-general-0000",
        "halueval-general-0001",
    )
    assert first.spans["factuality"] == (
        SpanLabels(errors=(Span(15, 27),), ignored=(Span(0, 27),)),
    )


def test_invented_answers_of_a_question_stand_beside_the_right_one(tmp_path):
    records = [
        corpus_files.halueval_qa(0),
        corpus_files.halueval_qa(0) | {"hallucinated_answer": "Nobody."},
        corpus_files.halueval_qa(1),
    ]
    two, one = read_qa(feedback_files.write(tmp_path / "qa.jsonl", records), "halueval")
    assert two.responses == ("Anna Berg", "Bob built it.", "Nobody.")
    assert two.context == ("The tower was built by Anna Berg.",)
    assert two.pairs == {Comparison.TRUTH: (Pair(0, 1), Pair(0, 2))}
    assert two.spans["factuality"] == (
        SpanLabels(),
        SpanLabels(errors=(Span(0, 13),)),
        SpanLabels(errors=(Span(0, 7),)),
    )
    assert two.verdicts == {"factuality": (True, False, False)}
    assert one.responses == ("Anna Berg", "Bob built it.")


def test_questions_of_the_release_are_named_by_position(tmp_path):
    records = [without_ids(corpus_files.halueval_qa(i), "question_id", "method") for i in range(2)]
    path = feedback_files.write(tmp_path / "qa_data.jsonl", records)
    assert [e.prompt_id for e in read_qa(path, "q")] == ["halueval-qa-0000", "halueval-qa-0001"]


@pytest.mark.parametrize(
    ("reader", "record", "changes", "problem"),
    [
        (
            read_general,
            "halueval_general",
            {"hallucination": "maybe"},
            "'hallucination' is 'maybe'",
        ),
        (read_general, "halueval_general", {"hallucination": "no"}, "'hallucination' is 'no', but"),
        (read_general, "halueval_general", {"span_offsets": []}, "0 span_offsets for 1 halluc"),
        (read_general, "halueval_general", {"span_offsets": [[15, 28]]}, r"span \[15, 28\) does"),
        (read_general, "halueval_general", {"span_offsets": [[15]]}, "a span must be"),
        (read_general, "halueval_general", {"hallucination_spans": [1]}, "hallucination_spans"),
        (read_qa, "halueval_qa", {"question_id": "qa-0"}, "question_id 'qa-0' is that of another"),
    ],
)
def test_a_bad_record_is_named(tmp_path, reader, record, changes, problem):
    make = corpus_files.RECORDS[record]
    path = feedback_files.write(tmp_path / "bad.jsonl", [make(0), make(1) | changes])
    with pytest.raises(BadData, match=rf"bad\.jsonl:2: {problem}"):
        list(reader(path, "halueval"))


def test_a_question_that_comes_back_later_is_an_error(tmp_path):
    records = [corpus_files.halueval_qa(i) for i in (0, 1, 0)]
    path = feedback_files.write(tmp_path / "bad.jsonl", records)
    with pytest.raises(BadData, match=r"bad\.jsonl:3: question_id 'qa-0' was already on line 1"):
        list(read_qa(path, "q"))
