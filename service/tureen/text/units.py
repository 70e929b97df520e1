"""The pieces of a response that heads speak about, in characters and in tokens."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from tureen.contracts import Granularity
from tureen.text.segments import Pieces, Span


class Unit(NamedTuple):
    """A piece of the response that heads of one granularity speak about; in characters."""

    granularity: Granularity
    start: int
    end: int


_FINER: Final = (Granularity.SENTENCE, Granularity.SUB_SENTENCE)


def units_of(
    response: Pieces, keys: np.ndarray, granularities: Collection[Granularity]
) -> tuple[tuple[Unit, ...], np.ndarray]:
    """The N units of a response, and which of its tokens they own, (N, 2) int32.

    The RESPONSE unit is the first. keys: as for `tiles`.
    """
    units = [Unit(Granularity.RESPONSE, 0, len(response.text))]
    ranges = [Span(0, len(keys))]
    for granularity in (finer for finer in _FINER if finer in granularities):
        for characters, tokens in tiles(response, keys, granularity):
            units.append(Unit(granularity, *characters))
            ranges.append(tokens)
    return tuple(units), np.array(ranges, dtype=np.int32)


def tiles(response: Pieces, keys: np.ndarray, granularity: Granularity) -> list[tuple[Span, Span]]:
    """(characters, tokens) of the units of one granularity, which tile the response.

    A unit that owns no token is merged into the one before (the first: with the one after).

    Args:
        keys: (R,) the character that each token ends with, not descending; one that reaches over
            an edge of the response belongs to the unit at that edge.
    """
    starts = [span.start for span in response.of(granularity)[1:]]
    edges = [(0, 0)]  # (character, token)
    for edge in zip(starts, np.searchsorted(keys, starts).tolist(), strict=True):
        if len(edges) > 1 and edge[1] == edges[-1][1]:
            edges.pop()  # nothing between the two: it joins what is before
        if edges[-1][1] < edge[1] < len(keys):
            edges.append(edge)
    edges.append((len(response.text), len(keys)))
    return [
        (Span(start, end), Span(first, last)) for (start, first), (end, last) in pairwise(edges)
    ]
