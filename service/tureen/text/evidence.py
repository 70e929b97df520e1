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
from itertools import pairwise
from typing import Final

import numpy as np

from tureen.text.segments import Span

LENGTHS: Final = (1, 2, 3, 5, 9, 16)
"""Each is at most twice the one before it, so that n-grams can be made of two shorter ones."""

NO_CONTEXT: Final = 1
_FIRST: Final = 2
_LEVELS: Final = 1 + len(LENGTHS)
TOKEN_TYPES: Final = _FIRST + 2 * _LEVELS


class Context:
    """A context that responses are compared with: what does not depend on them, made once.

    N-grams of the same tokens have the same number; those of n tokens are pairs of numbers of
    shorter, overlapping ones.

    Args:
        ids: (C,) token ids. sentence_of: (C,) number of the sentence a token belongs to, from 0,
            not descending. Both are read only from now on.
    """

    def __init__(self, ids: np.ndarray, sentence_of: np.ndarray) -> None:
        ids.flags.writeable = sentence_of.flags.writeable = False
        self.ids, self.sentence_of = ids, sentence_of
        self._tokens, self._numbers = np.unique(ids, return_inverse=True)  # (U,), (C,)
        self._pairs: list[np.ndarray] = []  # ascending, for each of LENGTHS but the first
        numbers, count = self._numbers, len(self._tokens)
        for before, length in pairwise(LENGTHS):
            shift = length - before
            if len(numbers) <= shift:
                break
            pairs, numbers = np.unique(
                numbers[:-shift] * count + numbers[shift:], return_inverse=True
            )
            self._pairs.append(pairs)
            count = len(pairs)

    def __len__(self) -> int:
        return len(self.ids)

    def until(self, tokens: int) -> Context:
        """Its first tokens, at most so many."""
        if tokens >= len(self):
            return self
        return Context(self.ids[:tokens], self.sentence_of[:tokens])

    @property
    def nbytes(self) -> int:
        arrays = (self.ids, self.sentence_of, self._tokens, self._numbers, *self._pairs)
        return sum(array.nbytes for array in arrays)

    def numbers_of(self, tokens: np.ndarray) -> np.ndarray:
        """(T,): of each token id, -1 where the context does not have it."""
        return _looked_up(tokens, self._tokens)

    def levels_of(self, numbers: np.ndarray) -> np.ndarray:
        """(T,) int32: of each token, by `numbers_of`; no n-gram reaches over a -1."""
        levels = (numbers >= 0).astype(np.int32)
        count = len(self._tokens)
        for (before, length), pairs in zip(pairwise(LENGTHS), self._pairs, strict=False):
            shift = length - before
            if len(numbers) <= shift:
                break
            first, second = numbers[:-shift], numbers[shift:]
            both = np.where((first < 0) | (second < 0), -1, first * count + second)
            numbers = _looked_up(both, pairs)
            if numbers.max() < 0:
                break  # no longer one either
            levels += _covered(numbers >= 0, length, len(levels))
            count = len(pairs)
        return levels

    def most_alike(self, numbers: np.ndarray, ranges: Sequence[Span]) -> np.ndarray:
        """(T,) bool: whether the token stands in the sentence that its own is most like.

        That is the one which holds most of its tokens; of several, the first.

        Args:
            ranges: sentences, which tile the tokens.
        """
        best = np.zeros(len(numbers), bool)
        holds = np.zeros((int(self.sentence_of[-1]) + 1, len(self._tokens) + 1), bool)
        holds[self.sentence_of, self._numbers] = True  # the last column is what -1 comes to
        for start, end in ranges:
            held = holds[:, numbers[start:end]]
            best[start:end] = held[held.sum(axis=1).argmax()]
        return best


def token_types(
    context: Context, responses: Sequence[np.ndarray], sentences: Sequence[Sequence[Span]]
) -> list[np.ndarray]:
    """The types of the tokens of K responses to one prompt.

    Args:
        responses: K of (R,) token ids. sentences: of each response, the token ranges of its
            sentences, which tile it.
    Returns:
        K of (R,) int32.
    """
    if not len(context):
        return [np.full(len(response), NO_CONTEXT, np.int32) for response in responses]
    ends = np.cumsum([len(response) + 1 for response in responses])
    row = np.full(ends[-1] if len(ends) else 0, -1)  # all of them, with a -1 behind each
    for response, end in zip(responses, ends.tolist(), strict=True):
        row[end - 1 - len(response) : end - 1] = context.numbers_of(response)
    levels = context.levels_of(row)
    types = []
    for response, ranges, end in zip(responses, sentences, ends.tolist(), strict=True):
        own = slice(end - 1 - len(response), end - 1)
        best = context.most_alike(row[own], ranges)
        types.append((_FIRST + levels[own] + _LEVELS * best).astype(np.int32))
    return types


def _looked_up(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The places of values among those that are known, ascending; -1 where they are not."""
    places = known.searchsorted(values)
    places[places == len(known)] = 0
    places[known[places] != values] = -1
    return places


def _covered(starts: np.ndarray, length: int, size: int) -> np.ndarray:
    """Whether one of the ranges [start, start + length) lies at each of `size` places."""
    begun = np.zeros(size, np.int32)
    begun[: len(starts)] = starts
    begun = begun.cumsum()
    begun[length:] -= begun[:-length].copy()
    return begun > 0


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
