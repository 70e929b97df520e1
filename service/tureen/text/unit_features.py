"""Where a sub-sentence stands in its response, and how much of it was said or asked before.

What is superfluous in an answer comes late in it and in long sentences, repeats, and takes up little
of what was asked. A small model does not learn to count that from some hundred annotated answers;
counting it costs little. So the template `evidence-2` gives eight numbers to the heads, beside the
hidden states and the evidence about the tokens of a unit:

    log(1 + sub-sentences before it)
    log(1 + those of them that stand in its sentence)
    log(sentences of the response)
    log(tokens of its sentence)
    share of it that stands in the prompt
    share of the prompt that stands in its sentence − in the sentence that holds most of it
    share of its tokens that stand before it in the response
    share of its pairs of neighbouring tokens that do

A token stands wherever its id does. The shares of unit and prompt count characters, of the prompt
each distinct token once: words that carry little are short, so no list of them is needed, and no
language has to be known. A share of nothing is 0. Units of other granularities have only zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress, pairwise
from math import log, log1p
from typing import Final, NamedTuple

import numpy as np

from tureen.contracts import Granularity
from tureen.text.layout import Tokens
from tureen.text.segments import Span
from tureen.text.units import Unit

UNIT_FEATURES: Final = 8


class Texts(NamedTuple):
    """sentences: token ranges of the response's sentences, which tile it."""

    prompt: Tokens
    response: Tokens
    sentences: Sequence[Span]

    def without(self, tokens: int) -> Texts:
        """The first `tokens` of the prompt dropped."""
        return self._replace(prompt=self.prompt.after(tokens)) if tokens else self


def unit_features(texts: Texts, units: Sequence[Unit], ranges: np.ndarray) -> np.ndarray:
    """(N, UNIT_FEATURES) float32. units, ranges: as of `units_of`."""
    found = np.zeros((len(units), UNIT_FEATURES), np.float32)
    described = sum(unit.granularity is Granularity.SUB_SENTENCE for unit in units)
    if described:  # they come last
        pieces = ranges[-described:].tolist()
        found[-described:] = list(_numbers(texts, pieces))
    return found


def _numbers(texts: Texts, pieces: Sequence[Sequence[int]]) -> Iterator[tuple[float, ...]]:
    """Of each sub-sentence; `pieces`, (start, end) of each, tile every sentence.

    Plain Python on lists: a response is too short for arrays to pay, they take twice as long.
    """
    prompt, response, sentences = texts
    ids, characters = response.ids.tolist(), response.characters.tolist()
    pairs = list(pairwise(ids))
    asked = dict(zip(prompt.ids.tolist(), prompt.characters.tolist(), strict=True))
    wanted, whole = frozenset(asked), sum(asked.values()) or 1
    held = [sum(map(asked.__getitem__, wanted.intersection(ids[s:e]))) for s, e in sentences]
    count, most = log(len(sentences)), max(held)
    said, said_pairs = set[int](), set[tuple[int, int]]()
    number = end = 0
    for (first, last), characters_held in zip(sentences, held, strict=True):
        opened, length, share = number, log(last - first), (characters_held - most) / whole
        while end < last:
            start, end = pieces[number]
            tokens, sizes = ids[start:end], characters[start:end]
            yield (
                log1p(number),
                log1p(number - opened),
                count,
                length,
                sum(compress(sizes, map(wanted.__contains__, tokens))) / sum(sizes),
                share,
                sum(map(said.__contains__, tokens)) / (end - start),
                sum(map(said_pairs.__contains__, pairs[start : end - 1])) / (end - start - 1 or 1),
            )
            said.update(tokens)
            said_pairs.update(pairs[start:end])
            number += 1
