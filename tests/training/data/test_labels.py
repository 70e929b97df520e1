import feedback_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tureen.contracts import Granularity
from tureen.text.segments import Span, segment
from tureen_training.data.labels import (
    coverage,
    feedback_example,
    span_labels,
    unit_labels,
)
from tureen_training.data.qa_feedback import Feedback, read_feedback
from tureen_training.data.records import Comparison, Pair, SpanLabels, Tie

TEXT = "Anna built it. Gulls nest there. It burned."
UNITS = [Span(0, 15), Span(15, 33), Span(33, 43)]


@pytest.fixture
def item(tmp_path) -> Feedback:
    path = feedback_files.write(tmp_path / "f.jsonl", [feedback_files.feedback_record(0)])
    return next(iter(read_feedback(path)))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (SpanLabels(), [1, 1, 1]),
        (SpanLabels(errors=(Span(0, 4),)), [0, 1, 1]),
        (SpanLabels(errors=(Span(10, 20),)), [0, 0, 1]),
        (SpanLabels(errors=(Span(15, 32),)), [1, 0, 1]),
        (SpanLabels(errors=(Span(14, 32),)), [1, 0, 1]),  # white space alone is no overlap
        (SpanLabels(ignored=(Span(15, 32),)), [1, None, 1]),
        (SpanLabels(errors=(Span(15, 20),), ignored=(Span(15, 32),)), [1, 0, 1]),
        (SpanLabels(errors=(Span(33, 43),), ignored=(Span(0, 43),)), [None, None, 0]),
    ],
)
def test_unit_labels_by_hand(labels: SpanLabels, expected: list[float | None]):
    assert unit_labels(TEXT, UNITS, labels) == expected


def test_the_masking_rule(item: Feedback):
    labels = span_labels(item)
    response = item.predictions[0]
    sentences = segment(response, Granularity.SENTENCE)
    assert len(sentences) == 2
    # the first sentence has the factual error; the second an irrelevance alone, so nobody checked its facts
    assert unit_labels(response, sentences, labels["factuality"]) == [0, None]
    assert unit_labels(response, sentences, labels["relevance"]) == [1, 0]


def test_relevance_spans_under_five_words_are_dropped(tmp_path):
    record = feedback_files.feedback_record(0)
    record["feedback"]["errors"] = [
        {"error type": "Redundant", "start": 0, "end": 28, "explanation": ""}
    ]
    item = next(iter(read_feedback(feedback_files.write(tmp_path / "f.jsonl", [record]))))
    assert item.predictions[0][:28].split() == ["The", "lighthouse", "on", "Gull", "Point"]
    assert span_labels(item)["relevance"].errors == (Span(0, 28),)  # five are kept
    record["feedback"]["errors"][0]["end"] = 22
    item = next(iter(read_feedback(feedback_files.write(tmp_path / "f.jsonl", [record]))))
    assert span_labels(item)["relevance"] == SpanLabels()
    assert span_labels(item)["factuality"] == SpanLabels()


@given(
    text=st.text(min_size=1, max_size=80).filter(str.strip),
    cuts=st.lists(st.integers(0, 80), min_size=2, max_size=6),
    granularity=st.sampled_from(list(Granularity)),
)
def test_every_marked_character_lies_in_an_error_unit(text, cuts, granularity):
    edges = sorted({min(cut, len(text)) for cut in cuts})
    spans = [Span(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if a < b]
    units = segment(text, granularity)
    labels = unit_labels(text, units, SpanLabels(errors=tuple(spans)))
    for unit, label in zip(units, labels, strict=True):
        marked = any(
            not text[i].isspace()
            for span in spans
            for i in range(max(span.start, unit.start), min(span.end, unit.end))
        )
        assert label == (0 if marked else 1)


def test_coverage_prefers_the_answer_that_states_more(item: Feedback):
    # the correction states sentences 1 and 2; the predictions state 1, 1, none and both of them
    pairs = set(coverage(item).pairs)
    assert {Pair(3, 0), Pair(3, 1), Pair(3, 2), Pair(1, 2)} <= pairs
    assert not {Pair(p.rejected, p.chosen) for p in pairs} & pairs


def test_the_example_of_a_question(item: Feedback):
    example = feedback_example(item)
    # labels 2 1 2 1 0 2 in the order 1-2 1-3 1-4 2-3 2-4 3-4
    assert example.pairs[Comparison.PREFERENCE] == (
        Pair(1, 0),
        Pair(0, 2),
        Pair(3, 0),
        Pair(1, 2),
        Pair(3, 2),
    )
    assert example.ties[Comparison.PREFERENCE] == (Tie(1, 3),)
    assert example.responses[0] == feedback_files.FIRST
    assert example.responses[4] == feedback_files.CORRECTED
    assert example.pairs[Comparison.CORRECTION] == (Pair(4, 0),)
    assert example.pairs[Comparison.COMPLETION] == (Pair(4, 0),)
    first, *others, correction = example.spans["factuality"]
    assert first is not None
    assert others == [None, None, None]  # only the first answer was annotated
    assert correction is None  # nobody marked it


def test_a_correction_is_more_complete_only_where_something_was_missing(tmp_path):
    record = feedback_files.feedback_record(0)
    record["feedback"]["missing-info"] = []
    item = next(iter(read_feedback(feedback_files.write(tmp_path / "f.jsonl", [record]))))
    example = feedback_example(item)
    assert example.pairs[Comparison.COMPLETION] == ()
    assert example.pairs[Comparison.CORRECTION] == (Pair(4, 0),)


def test_an_unchanged_answer_is_no_correction(tmp_path):
    record = feedback_files.feedback_record(0)
    record["feedback"]["corrected-prediction"] = feedback_files.FIRST + " "
    item = next(iter(read_feedback(feedback_files.write(tmp_path / "f.jsonl", [record]))))
    example = feedback_example(item)
    assert len(example.responses) == 4
    assert example.pairs[Comparison.CORRECTION] == ()


# white space, marks that cut, marks that do not, letters of scripts with and without spaces, and a joiner
TEXT_LIKE = st.text(
    st.sampled_from(" \n\t\u2003.,;!?a1éß漢。、क्षไ\u0301\u200d😀()\"'")
    | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=60,
).filter(str.strip)
FINE = st.sampled_from([Granularity.SENTENCE, Granularity.SUB_SENTENCE])


@st.composite
def texts_with_spans(draw) -> tuple[str, list[Span]]:
    text = draw(TEXT_LIKE)
    starts = draw(st.lists(st.integers(0, len(text) - 1), max_size=4))
    return text, [Span(start, draw(st.integers(start + 1, len(text)))) for start in starts]


@given(marked=texts_with_spans(), granularity=st.sampled_from(list(Granularity)))
def test_a_span_with_something_to_read_hits_a_unit_and_one_without_hits_none(marked, granularity):
    text, spans = marked
    units = segment(text, granularity)
    for span in spans:
        labels = unit_labels(text, units, SpanLabels(errors=(span,)))
        readable = bool(text[span.start : span.end].strip())
        assert (0.0 in labels) == readable


@given(marked=texts_with_spans(), granularity=FINE)
def test_spans_add_up_and_never_clean(marked, granularity):
    """The label under several spans is the worst of those under each; their order says nothing."""
    text, spans = marked
    units = segment(text, granularity)
    together = unit_labels(text, units, SpanLabels(errors=tuple(spans)))
    assert unit_labels(text, units, SpanLabels(errors=tuple(reversed(spans)))) == together
    alone = [unit_labels(text, units, SpanLabels(errors=(span,))) for span in spans]
    worst = [min(labels) for labels in zip([1.0] * len(units), *alone, strict=True)]
    assert together == worst


@given(marked=texts_with_spans(), granularity=FINE)
def test_white_space_around_a_span_or_unit_says_nothing(marked, granularity):
    text, spans = marked
    units = segment(text, granularity)
    before = unit_labels(text, units, SpanLabels(errors=tuple(spans)))
    stripped = [
        Span(unit.start, unit.start + len(text[unit.start : unit.end].rstrip())) for unit in units
    ]
    assert unit_labels(text, stripped, SpanLabels(errors=tuple(spans))) == before
    wider = [
        Span(
            len(text[: span.start].rstrip()),
            len(text) - len(text[span.end :].lstrip()),
        )
        for span in spans
        if text[span.start : span.end].strip()
    ]
    assert unit_labels(text, units, SpanLabels(errors=tuple(wider))) == before


@given(marked=texts_with_spans(), ignored=st.integers(0, 3))
def test_a_sentence_is_as_bad_as_the_worst_of_its_sub_sentences(marked, ignored):
    """Which is what lets one set of spans teach heads of both granularities."""
    text, spans = marked
    labels = SpanLabels(errors=tuple(spans[ignored:]), ignored=tuple(spans[:ignored]))
    pieces = segment(text, Granularity.SUB_SENTENCE)
    fine = dict(zip(pieces, unit_labels(text, pieces, labels), strict=True))
    sentences = segment(text, Granularity.SENTENCE)
    for sentence, label in zip(sentences, unit_labels(text, sentences, labels), strict=True):
        within = [fine[p] for p in pieces if sentence.start <= p.start < sentence.end]
        expected = 0.0 if 0.0 in within else None if None in within else 1.0
        assert label == expected


@given(marked=texts_with_spans())
def test_masking_only_ever_takes_clean_labels_away(marked):
    text, spans = marked
    units = segment(text, Granularity.SENTENCE)
    half = len(spans) // 2
    plain = unit_labels(text, units, SpanLabels(errors=tuple(spans[:half])))
    masked = unit_labels(
        text, units, SpanLabels(errors=tuple(spans[:half]), ignored=tuple(spans[half:]))
    )
    for one, other in zip(plain, masked, strict=True):
        assert other == one or (one, other) == (1.0, None)


def test_code_points_are_counted_not_bytes_or_utf_16():
    text = "😀 It works. Ça va bien. 漢字。"
    start = text.index("va")
    labels = unit_labels(
        text, segment(text, Granularity.SENTENCE), SpanLabels(errors=(Span(start, start + 2),))
    )
    assert labels == [1, 0, 1]
