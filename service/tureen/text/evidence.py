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

    The responses are one sequence, each behind a separator that the context does not have. Equal
    n-grams of theirs get equal codes; those of n tokens are pairs of codes of shorter, overlapping
    ones. An n-gram of the context has the code of theirs that it equals, or -1.
    """
    pieces: list[np.ndarray] = []
    starts: list[int] = []
    size = 0
    for number, response in enumerate(responses, start=1):
        pieces += [np.array([-number]), response]
        starts.append(size + 1)
        size += 1 + len(response)
    levels = np.zeros(size, np.int32)
    codes, held = _shared(np.concatenate(pieces), context) if pieces else (levels, levels)
    for before, length in zip((0, *LENGTHS), LENGTHS, strict=False):
        if before:
            shift = length - before
            if min(len(codes), len(held)) <= shift:
                break
            count = int(codes.max()) + 1
            pairs = held[:-shift] * count + held[shift:]
            pairs[(held[:-shift] < 0) | (held[shift:] < 0)] = -1
            codes, held = _shared(codes[:-shift] * count + codes[shift:], pairs)
        copied = np.zeros(len(codes) + 1, bool)  # by code; the last one is what -1 comes to
        copied[held] = True
        copied[-1] = False
        stands = np.zeros(size, bool)
        stands[: len(codes)] = copied[codes]
        if not stands.any():
            break  # no longer one either
        levels += _covered(stands, length)
    return [
        levels[start : start + len(response)]
        for start, response in zip(starts, responses, strict=True)
    ]


def _shared(theirs: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 for the values of both, equal ones for equal values; -1 for those of the
    context alone."""
    values, codes = np.unique(theirs, return_inverse=True)
    places = np.minimum(np.searchsorted(values, context), len(values) - 1)
    return codes, np.where(values[places] == context, places, -1)


def _covered(starts: np.ndarray, length: int) -> np.ndarray:
    """Whether one of the ranges [start, start + length) lies at each place; starts is a mask."""
    begun = np.cumsum(starts)
    begun[length:] -= begun[:-length].copy()
    return begun > 0


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
