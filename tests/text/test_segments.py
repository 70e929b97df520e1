"""Units tile the text; where they are cut is worked out by hand."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tureen.contracts import Granularity
from tureen.text.segments import Span, segment

SENTENCE, SUB_SENTENCE = Granularity.SENTENCE, Granularity.SUB_SENTENCE

# Random Unicode alone rarely holds a sentence: mix it with what sentences are made of.
# fmt: off
PIECES = st.sampled_from([
    ". ", "! ", "? ", ", ", "; ", ".", "\n", "\n\n", "\r\n", "\r\n\r\n", " ", "\u2028", "\u3000",
    "word", "Dr.", "e.g.", "1,000", "3.14", '"', "(", ")", "- item", "\n- item", "\n2) item",
    "。", "！」", "「", "、", "昨日は雨が", "ไทย", "مرحبا", "؟ ", "،", "नमस्ते।",
    "e\u0301", "👩\u200d👧", "👍🏽", "\u0301", "\u200d",
])
# fmt: on
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=40).map("".join))


def pieces(text: str, granularity: Granularity) -> list[str]:
    return [text[start:end] for start, end in segment(text, granularity)]


def test_a_response_is_one_unit():
    assert segment("One. Two.", Granularity.RESPONSE) == [Span(0, 9)]


@pytest.mark.parametrize("granularity", Granularity)
def test_no_text_no_units(granularity):
    assert segment("", granularity) == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Who? Me.  You!", ["Who? ", "Me.  ", "You!"]),
        (
            "Dr. Smith is 3.14 m tall, e.g. here. Yes.",
            ["Dr. Smith is 3.14 m tall, e.g. here. ", "Yes."],
        ),
        ('He said "Go. Now." and left. So?', ['He said "Go. Now." and left. ', "So?"]),
        ("One.\n\nTwo.\r\n\r\nThree", ["One.\n\n", "Two.\r\n\r\n", "Three"]),
        ("\n\n One. Two.", ["\n\n One. ", "Two."]),  # white space in front joins the first
        ("a line without an end", ["a line without an end"]),
        (" \n\t ", [" \n\t "]),
        (
            "Of these:\n- red ones\n- blue ones\n  2) more",
            ["Of these:\n", "- red ones\n", "- blue ones\n  ", "2) more"],
        ),
        ("Hi 😀. Good 👩\u200d👧! 👍🏽 ok.", ["Hi 😀. ", "Good 👩\u200d👧! ", "👍🏽 ok."]),
        ("A!\u0301 Bcd. E.", ["A!\u0301 ", "Bcd. ", "E."]),  # a mark stays with its base
        ("مرحبا بك. كيف حالك؟ نعم.", ["مرحبا بك. ", "كيف حالك؟ ", "نعم."]),
        ("彼は「行く。帰る。」。次は？はい。", ["彼は「行く。帰る。」。", "次は？", "はい。"]),
        (
            "彼は「行く。」と言った。",
            ["彼は「行く。」", "と言った。"],
        ),  # after the quote, never inside
        ("今天下雨。我在家！", ["今天下雨。", "我在家！"]),
    ],
)
def test_sentences(text, sentences):
    assert pieces(text, SENTENCE) == sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 5 words before the comma, 6 after it.
        (
            "Rembrandt painted it in 1642, which was long ago, I believe.",
            ["Rembrandt painted it in 1642, ", "which was long ago, I believe."],
        ),
        # 5 words remain, which is not more than 5.
        (
            "Rembrandt painted it in 1642, which was long ago indeed.",
            ["Rembrandt painted it in 1642, which was long ago indeed."],
        ),
        # Only 4 words before the first comma: merged with the next piece.
        (
            "In the year 1642, Rembrandt painted it; nobody knows why he did that.",
            ["In the year 1642, Rembrandt painted it; ", "nobody knows why he did that."],
        ),
        # A mark inside a number is no end of a token; a closing quote stays with its mark.
        (
            'He paid 1,000 or "maybe more," as far as we can know today.',
            ['He paid 1,000 or "maybe more," ', "as far as we can know today."],
        ),
        # 5 words remain in the sentence: words of the next sentence do not count.
        (
            "One two three four five, six seven eight nine ten. Next one here.",
            ["One two three four five, six seven eight nine ten. ", "Next one here."],
        ),
        # Runs of 15, 8 and 7 letters: 8, 4 and 4 words; after the second mark only 4 remain.
        (
            "昨日は一日中雨が降っていたので、私たちは家にいて、本を読みました。",
            ["昨日は一日中雨が降っていたので、", "私たちは家にいて、本を読みました。"],
        ),
        (
            "今天下了一整天大雨,所以我们都留在家里看书。",
            ["今天下了一整天大雨,", "所以我们都留在家里看书。"],
        ),
    ],
)
def test_sub_sentences(text, expected):
    assert pieces(text, SUB_SENTENCE) == expected


@given(TEXTS, st.sampled_from(Granularity))
@example("\r\n.\r\n", SENTENCE)
@settings(deadline=None, max_examples=300)
def test_units_tile_the_text(text, granularity):
    spans = segment(text, granularity)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert spans == segment(text, granularity)
    assert not any(text[span.start].isspace() for span in spans[1:])


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_sub_sentences_refine_sentences(text):
    sentence_edges = {span.start for span in segment(text, SENTENCE)}
    assert sentence_edges <= {span.start for span in segment(text, SUB_SENTENCE)}


ORDINARY = st.sampled_from(
    [
        "The cat sat on the mat, looked at the dog and then, after a while, it slept. ",
        "Who painted it?\n\n",
        'She said: "Never again. I mean it." ',
        "In 1642 it cost 1,000 guilders; nobody in the city of Amsterdam had more! ",
        "昨日は一日中雨が降っていたので、私たちは家にいて、本を読みました。",
    ]
)


@given(st.lists(ORDINARY, min_size=1, max_size=8), st.sampled_from([SENTENCE, SUB_SENTENCE]))
@settings(deadline=None, max_examples=50)
def test_a_unit_of_ordinary_text_is_not_cut_again(sentences, granularity):
    """Only of ordinary text: whether "!" ends a sentence can depend on what follows it."""
    for unit in pieces("".join(sentences), granularity):
        assert pieces(unit, granularity) == [unit]


def test_a_long_text_without_any_mark_is_one_sentence():
    assert len(segment("word " * 20_000, SUB_SENTENCE)) == 1


@pytest.mark.parametrize("run", ["\n\n", ",", "!", ',"', "! "])
def test_time_grows_with_the_length_of_a_run(run):
    """Of white space and marks; with its square, these would take minutes."""
    text = "a" + run * 100_000 + "b"
    assert "".join(pieces(text, Granularity.SUB_SENTENCE)) == text
