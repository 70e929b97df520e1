"""Contexts are read once, and as if they were read each time."""

import sys

import pico_tokenizers
import pytest

from tureen.text.context import OVERHEAD_BYTES, ContextReader
from tureen.text.layout import private_backend, tokenize


@pytest.fixture
def reader() -> ContextReader:
    return ContextReader(private_backend(pico_tokenizers.bert_like()))


def test_sentences_by_hand(reader: ContextReader):
    read = reader.read(("it is. who?", " ", "it is."))  # a blank passage holds no evidence
    whole = tokenize(private_backend(pico_tokenizers.bert_like()), "it is. who?\nit is.")
    assert read.ids.tolist() == whole.ids.tolist()
    # "who?" begins at character 7, the second passage at 12.
    expected = [0 if key < 7 else 1 if key < 12 else 2 for key in whole.keys.tolist()]
    assert read.sentence_of.tolist() == expected


def test_equal_passages_are_read_once_and_nobody_can_change_them(reader: ContextReader):
    first, second = reader.read(("it is.",)), reader.read(("it is.",))
    assert first is second
    with pytest.raises(ValueError, match="read-only"):
        first.ids[0] = 7
    with pytest.raises(ValueError, match="read-only"):
        first.sentence_of[0] = 7


def test_the_same_text_in_other_passages_has_other_sentences(reader: ContextReader):
    one, two = reader.read(("it is\nit is",)), reader.read(("it is", "it is"))
    assert one.ids.tolist() == two.ids.tolist()
    assert (int(one.sentence_of[-1]), int(two.sentence_of[-1])) == (0, 1)


def test_what_is_long_or_was_not_met_for_long_is_read_again():
    one = ContextReader(private_backend(pico_tokenizers.bert_like())).read(("it is.",))
    room = 2 * (one.nbytes + OVERHEAD_BYTES)
    reader = ContextReader(private_backend(pico_tokenizers.bert_like()), room)
    long = ("it is. " * 400,)
    assert reader.read(long) is not reader.read(long)
    first, second = reader.read(("it is.",)), reader.read(("is it.",))
    assert reader.read(("it is.",)) is first
    reader.read(("it. is",))
    assert reader.read(("it is.",)) is first
    assert reader.read(("is it.",)) is not second


def test_texts_are_not_kept(reader: ContextReader):
    text = "x" * 100_000  # one unknown token
    before = sys.getrefcount(text)
    assert len(reader.read((text,))) == 1
    assert sys.getrefcount(text) == before


def test_no_context(reader: ContextReader):
    read = reader.read(())
    assert (read.ids.tolist(), read.sentence_of.tolist()) == ([], [])
