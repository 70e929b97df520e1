"""Where a unit stands in its response, and how much of it was said or asked before: eight numbers.

What is superfluous in an answer comes late in it and in long sentences, repeats, and takes up little
of what was asked. A small model does not learn to count that from some hundred annotated answers;
counting it costs next to nothing. So the template `evidence-2` gives it to the heads, beside the
hidden states and the evidence about the tokens of a unit:

    log(1 + units of its kind before it)
    log(1 + those of them that stand in its sentence)
    log(sentences of the response)
    log(tokens of its sentence)
    share of the unit that stands in the prompt
    share of the prompt that stands in its sentence − in the sentence that holds most of it
    share of its tokens that stand before it in the response
    share of its pairs of neighbouring tokens that do

A token stands wherever its id does. The shares of unit and prompt count characters, of the prompt
each distinct token once: words that carry little are short, so no list of them is needed, and no
language has to be known. A share of nothing is 0. The unit of the whole response has only zeros.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import accumulate, pairwise
from math import log, log1p
from typing import Final

import numpy as np

from tureen.contracts import Granularity
from tureen.text.layout import Tokens
from tureen.text.segments import Span
from tureen.text.units import Unit

UNIT_FEATURES: Final = 8


def unit_features(
    prompt: Tokens,
    response: Tokens,
    sentences: Sequence[Span],
    units: Sequence[Unit],
    ranges: np.ndarray,
) -> np.ndarray:
    """(N, UNIT_FEATURES) float32.

    Args:
        sentences: token ranges of the response's sentences, which tile it.
        units, ranges: as of `units_of`.
    """
    # Plain Python: a response is too short for arrays to pay, and takes four times as long with them.
    ids = response.ids.tolist()
    characters = response.characters.tolist()
    asked = dict(zip(prompt.ids.tolist(), prompt.characters.tolist(), strict=True))
    whole = max(sum(asked.values()), 1)
    coverage = [
        sum(asked[token] for token in asked.keys() & ids[start:end]) / whole
        for start, end in sentences
    ]
    most = max(coverage)
    counted = [0, *accumulate(characters)]
    shared = [0, *accumulate(n if i in asked else 0 for i, n in zip(ids, characters, strict=True))]
    tokens, pairs = _first_places(ids), _first_places(pairwise(ids))
    found = np.zeros((len(units), UNIT_FEATURES), np.float32)
    kind = Granularity.RESPONSE
    number = own = opened = 0  # units of the kind so far, the sentence, and those before it
    for row, unit, (start, end) in zip(found, units, ranges.tolist(), strict=True):
        if unit.granularity is Granularity.RESPONSE:
            continue
        if unit.granularity is not kind:
            kind, number, own, opened = unit.granularity, 0, 0, 0
        while start >= sentences[own].end:
            own, opened = own + 1, number
        row[:] = (
            log1p(number),
            log1p(number - opened),
            log(len(sentences)),
            log(sentences[own].end - sentences[own].start),
            (shared[end] - shared[start]) / (counted[end] - counted[start]),
            coverage[own] - most,
            sum(map(start.__gt__, tokens[start:end])) / (end - start),
            sum(map(start.__gt__, pairs[start : end - 1])) / max(end - start - 1, 1),
        )
        number += 1
    return found


def _first_places(values: Iterable[Hashable]) -> list[int]:
    """Where each value stands first."""
    places: dict[Hashable, int] = {}
    return [places.setdefault(value, place) for place, value in enumerate(values)]
