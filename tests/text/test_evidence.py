"""How the tokens of a response stand in its context: hand-made cases and a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tureen.text.evidence import (
    FEATURES,
    LENGTHS,
    NO_CONTEXT,
    TOKEN_TYPES,
    Context,
    feature_table,
    token_types,
)
from tureen.text.segments import Span

IDS = st.lists(st.integers(0, 3), max_size=40)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def compared(
    context: np.ndarray,
    responses: list[np.ndarray],
    sentence_of: np.ndarray | None = None,
    sentences: list[list[Span]] | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """The levels and the bests that the types of each response say."""
    sentence_of = sentence_of if sentence_of is not None else np.zeros(len(context), np.int32)
    sentences = sentences or [[Span(0, len(response))] for response in responses]
    types = token_types(Context(context, sentence_of), responses, sentences)
    return [((one - 2) % 7).tolist() for one in types], [((one - 2) // 7).tolist() for one in types]


def test_levels_by_hand():
    context = ids(1, 2, 3, 4, 5, 6)
    # 9 stands nowhere; 2 alone; 1 2 3 is a run of three; 6 5 are two runs of one.
    response = ids(9, 2, 9, 1, 2, 3, 9, 6, 5)
    (levels,), _ = compared(context, [response])
    assert levels == [0, 1, 0, 3, 3, 3, 0, 1, 1]


def test_a_run_of_five_is_level_four_and_of_sixteen_level_six():
    context = np.arange(100, 130, dtype=np.int32)
    five, sixteen = np.arange(103, 108), np.arange(110, 126)
    (levels,), _ = compared(context, [np.concatenate([five, ids(7), sixteen])])
    assert levels == [4] * 5 + [0] + [6] * 16


def test_a_run_does_not_go_over_the_edge_of_a_response():
    context = ids(1, 2, 3, 4)
    levels, _ = compared(context, [ids(1, 2), ids(3, 4)])
    assert levels == [[2, 2], [2, 2]]


def longest_runs(context: list[int], response: list[int]) -> list[int]:
    """Length of the longest copied run that each token lies in, by trying all."""
    best = [0] * len(response)
    for i in range(len(response)):
        for j in range(len(context)):
            n = 0
            while (
                i + n < len(response) and j + n < len(context) and response[i + n] == context[j + n]
            ):
                n += 1
            for k in range(i, i + n):
                best[k] = max(best[k], n)
    return best


@given(IDS.filter(bool), st.lists(IDS, max_size=3))
def test_levels_are_those_of_the_longest_run(context: list[int], responses: list[list[int]]):
    found, _ = compared(ids(*context), [ids(*response) for response in responses])
    for levels, response in zip(found, responses, strict=True):
        runs = longest_runs(context, response)
        assert levels == [sum(run >= length for length in LENGTHS) for run in runs]


def test_best_sentence_by_hand():
    context, sentence_of = ids(1, 2, 3, 4, 5, 6), np.array([0, 0, 0, 1, 1, 1])
    response = ids(4, 5, 1, 3, 2, 9)
    # The first sentence (4 5 1) is most like the second of the context, which lacks its 1;
    # the second (3 2 9) most like the first, which lacks its 9.
    _, (best,) = compared(context, [response], sentence_of, [[Span(0, 3), Span(3, 6)]])
    assert best == [1, 1, 0, 1, 1, 0]


def test_of_equally_good_sentences_the_first_counts():
    context, sentence_of = ids(1, 2), np.array([0, 1])
    _, (best,) = compared(context, [ids(2, 1)], sentence_of)
    assert best == [0, 1]


def test_without_context_every_token_says_so():
    (types,) = token_types(Context(ids(), ids()), [ids(5, 6)], [[Span(0, 2)]])
    assert types.tolist() == [NO_CONTEXT, NO_CONTEXT]


def test_a_response_without_tokens_has_no_types():
    (types,) = token_types(Context(ids(1), ids(0)), [ids()], [[Span(0, 0)]])
    assert types.tolist() == []


def test_types_by_hand():
    # 1 2 is copied as a pair (level 2) and stands in the best sentence: 2 + 2 + 7; 9 is nowhere: 2.
    (types,) = token_types(Context(ids(1, 2), ids(0, 0)), [ids(1, 2, 9)], [[Span(0, 3)]])
    assert types.tolist() == [11, 11, 2]


@pytest.mark.parametrize(
    ("kind", "features"),
    [
        (0, [0, 0, 0, 0, 0, 0, 0, 0]),
        (NO_CONTEXT, [1, 0, 0, 0, 0, 0, 0, 0]),
        (2, [0, 0, 0, 0, 0, 0, 0, 0]),
        (5, [0, 1, 1, 1, 0, 0, 0, 0]),
        (15, [0, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_features_of_a_type(kind: int, features: list[int]):
    table = feature_table()
    assert table.shape == (TOKEN_TYPES, FEATURES) == (16, 8)
    assert table[kind].tolist() == features
