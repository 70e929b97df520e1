"""Place, length, overlap and repetition of units, by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from tureen.contracts import Granularity
from tureen.text.layout import Tokens
from tureen.text.segments import Span
from tureen.text.unit_features import UNIT_FEATURES, Texts, unit_features
from tureen.text.units import Unit

RESPONSE, SENTENCE, SUB = Granularity.RESPONSE, Granularity.SENTENCE, Granularity.SUB_SENTENCE


def tokens(*words: tuple[int, int]) -> Tokens:
    """Of (id, characters), with a space between two."""
    starts = np.cumsum([0, *(size + 1 for _, size in words)])[:-1].astype(np.int32)
    sizes = np.array([size for _, size in words], np.int32)
    return Tokens(np.array([one for one, _ in words], np.int32), starts, starts + sizes - 1)


PROMPT = tokens((1, 3), (2, 5), (1, 3))  # 1 counts once: 8 characters are asked for
ANSWER = tokens((2, 5), (7, 2), (1, 3), (2, 5), (7, 2), (9, 4))
SENTENCES = [Span(0, 3), Span(3, 6)]  # 2 7 1 | 2 7 9


def of(*units: tuple[Granularity, int, int], prompt: Tokens = PROMPT) -> list[list[float]]:
    ranges = np.array([[start, end] for _, start, end in units], np.int32)
    named = [Unit(kind, 0, 0) for kind, _, _ in units]
    return unit_features(Texts(prompt, ANSWER, SENTENCES), named, ranges).tolist()


def test_a_sub_sentence_by_hand():
    whole, sentence, first, second = of(
        (RESPONSE, 0, 6), (SENTENCE, 0, 6), (SUB, 0, 3), (SUB, 3, 6)
    )
    assert whole == sentence == [0.0] * UNIT_FEATURES
    # 8 of its 10 characters are asked for, and it holds all that is asked; nothing stood before.
    assert first == pytest.approx([0, 0, log(2), log(3), 8 / 10, 0, 0, 0])
    # 5 of 11; of the 8 asked for it has 5; 2 and 7 stood before, and so did their pair of two.
    assert second == pytest.approx([log(2), 0, log(2), log(3), 5 / 11, 5 / 8 - 1, 2 / 3, 1 / 2])


def test_several_in_one_sentence():
    *_, third, fourth = of((SUB, 0, 3), (SUB, 3, 5), (SUB, 5, 6))
    assert third == pytest.approx([log(2), 0, log(2), log(3), 5 / 7, 5 / 8 - 1, 1, 1])
    # One of its sentence stands before it; of a single token there are no pairs.
    assert fourth == pytest.approx([log(3), log(2), log(2), log(3), 0, 5 / 8 - 1, 0, 0])


def test_a_pair_across_the_edge_of_two_was_said_before():
    # 2 7 | 1 2 7 9: the pair 2 7 was said; 7 1 reaches over the edge, so it counts as said, not as own
    answer = tokens((2, 5), (7, 2), (1, 3), (2, 5), (7, 2), (1, 3))
    texts = Texts(PROMPT, answer, [Span(0, 6)])
    found = unit_features(texts, [Unit(SUB, 0, 0)] * 2, np.array([[0, 2], [2, 6]]))
    assert found[1, 6:].tolist() == pytest.approx([2 / 4, 2 / 3])


def test_what_is_cut_of_a_prompt_is_not_asked_for():
    texts = Texts(PROMPT, ANSWER, SENTENCES).without(2)  # 1, of 3 characters, is left
    found = unit_features(texts, [Unit(SUB, 0, 0)] * 2, np.array([[0, 3], [3, 6]]))
    assert found[:, 4].tolist() == pytest.approx([3 / 10, 0])
    assert found[:, 5].tolist() == [0, -1]


def test_without_a_prompt_nothing_is_asked_for():
    first, _ = of((SUB, 0, 3), (SUB, 3, 6), prompt=tokens())
    assert first == pytest.approx([0, 0, log(2), log(3), 0, 0, 0, 0])


def test_where_no_head_asks_for_sub_sentences_nothing_is_counted():
    assert of((RESPONSE, 0, 6), (SENTENCE, 0, 6)) == [[0.0] * UNIT_FEATURES] * 2
