"""How the tokens of a response stand in its context, as token types.

A small encoder does not find out from 500 tokens of context which words of an answer it bears out.
Comparing tokens does, and costs next to nothing: so the template `evidence` gives the model the
prompt and the response to read, and of the context the outcome of the comparison, on every token of
the response. A context of any length then fits one row.

The types of a row:

    0                    prompt and special tokens
    1                    response, where no context was given
    2 + level + 7 * best response with context

level: how many of `LENGTHS` n there are such that the token lies in an n-gram of the response that
stands in the context. best: 1 where the token stands in that sentence of the context that holds
most tokens of its own sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tureen.text.segments import Span

LENGTHS: Final = (1, 2, 3, 5, 9, 16)
"""Each is at most twice the one before it, so that codes of n-grams can be made of shorter ones."""

NO_CONTEXT: Final = 1
_FIRST: Final = 2
_LEVELS: Final = 1 + len(LENGTHS)
TOKEN_TYPES: Final = _FIRST + 2 * _LEVELS


def token_types(
    context: np.ndarray,
    sentence_of: np.ndarray,
    responses: Sequence[np.ndarray],
    sentences: Sequence[Sequence[Span]],
) -> list[np.ndarray]:
    """The types of the tokens of K responses to one prompt.

    Args:
        context: (C,) token ids. sentence_of: (C,) number of the sentence a token belongs to, from
            0, not descending. responses: K of (R,) token ids. sentences: of each response, the
            token ranges of its sentences, which tile it.
    Returns:
        K of (R,) int32.
    """
    if not len(context):
        return [np.full(len(response), NO_CONTEXT, np.int32) for response in responses]
    return [
        (_FIRST + levels + _LEVELS * best_sentence(context, sentence_of, response, ranges)).astype(
            np.int32
        )
        for levels, response, ranges in zip(
            copied_levels(context, responses), responses, sentences, strict=True
        )
    ]


def copied_levels(context: np.ndarray, responses: Sequence[np.ndarray]) -> list[np.ndarray]:
    """K of (R,): the level of every token. context: (C,), C >= 1.

    All texts are one sequence, each response behind a separator that occurs nowhere else. Equal
    n-grams get equal codes; those of n tokens are pairs of codes of shorter, overlapping ones.
    """
    pieces: list[np.ndarray] = [context]
    starts: list[int] = []
    end = len(context)
    for number, response in enumerate(responses, start=1):
        pieces += [np.array([-number]), response]
        starts.append(end + 1)
        end += 1 + len(response)
    _, codes = np.unique(np.concatenate(pieces), return_inverse=True)  # of 1-grams
    by_length = {1: codes}
    levels = np.zeros(end, np.int32)
    for shorter, length in zip((None, *LENGTHS), LENGTHS, strict=False):
        if shorter is not None:
            by_length[length] = codes = _joined(by_length[shorter], length - shorter)
        copied = np.isin(codes, codes[: max(len(context) - length + 1, 0)])
        copied[: len(context)] = False
        levels += _covered(np.flatnonzero(copied), length, end)
    return [
        levels[start : start + len(response)]
        for start, response in zip(starts, responses, strict=True)
    ]


def _joined(codes: np.ndarray, shift: int) -> np.ndarray:
    """Codes of the n-grams that begin with one n-gram and end with the one `shift` places on."""
    if len(codes) <= shift:
        return np.empty(0, np.int64)
    pairs = codes[:-shift].astype(np.int64) * (codes.max() + 1) + codes[shift:]
    return np.unique(pairs, return_inverse=True)[1]


def _covered(starts: np.ndarray, length: int, size: int) -> np.ndarray:
    """(size,) int32: 1 where one of the ranges [start, start + length) lies."""
    steps = np.zeros(size + 1, np.int32)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + length, -1)
    return (np.cumsum(steps)[:size] > 0).astype(np.int32)


def best_sentence(
    context: np.ndarray, sentence_of: np.ndarray, response: np.ndarray, ranges: Sequence[Span]
) -> np.ndarray:
    """(R,) int32: 1 where the token stands in the context sentence that its sentence is most like.

    That is the one which holds most of its tokens; of several, the first.
    """
    best = np.zeros(len(response), np.int32)
    if not len(response):
        return best
    ids, places = np.unique(response, return_inverse=True)
    nearest = np.minimum(np.searchsorted(ids, context), len(ids) - 1)
    shared = ids[nearest] == context
    holds = np.zeros((int(sentence_of[-1]) + 1, len(ids)), bool)  # (sentences, distinct ids)
    holds[sentence_of[shared], nearest[shared]] = True
    for start, end in ranges:
        held = holds[:, places[start:end]]
        best[start:end] = held[held.sum(axis=1).argmax()]
    return best


def feature_table() -> np.ndarray:
    """(TOKEN_TYPES, FEATURES) float32: what a token of each type adds to the features of its unit.

    The mean over the tokens of a unit is: the share without context, then for each n of `LENGTHS`
    the share that lies in a copied n-gram, then the share that stands in the best sentence.
    """
    table = np.zeros((TOKEN_TYPES, FEATURES), np.float32)
    table[NO_CONTEXT, 0] = 1
    for best in (0, 1):
        for level in range(_LEVELS):
            row = table[_FIRST + level + _LEVELS * best]
            row[1 : 1 + level] = 1
            row[-1] = best
    return table


FEATURES: Final = 1 + len(LENGTHS) + 1
