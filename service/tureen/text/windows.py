"""Which part of the context stands in which window, and what is cut. Counts of tokens only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tureen.contracts import Truncate

MIN_CONTEXT_TOKENS: Final = 32
"""A window has room for so many tokens of context (or for all of a shorter one)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """prompt_cut: tokens cut from the start of the prompt. slices: (start, end) of the context, one a
    window; a single empty one where there is no context."""

    prompt_cut: int
    slices: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TooLong:
    """Why there is no plan. needed and allowed are windows if over_windows, else tokens of one window."""

    needed: int
    allowed: int
    over_windows: bool


def pack(context_tokens: int, sentence_starts: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Consecutive slices of at most `room` >= 1 tokens that end with a sentence wherever one ends.

    Greedy, which for pieces in order is as few windows as possible; more room never needs more.
    sentence_starts: ascending token indices; a sentence longer than `room` is cut by tokens.
    """
    edges = [start for start in sentence_starts if 0 < start < context_tokens]
    slices: list[tuple[int, int]] = []
    start = 0
    while start < context_tokens:
        end = min(start + room, context_tokens)
        if end < context_tokens:
            nearest = bisect_right(edges, end)
            if nearest and edges[nearest - 1] > start:
                end = edges[nearest - 1]
        slices.append((start, end))
        start = end
    return slices


def plan(
    *,
    fixed_tokens: int,
    prompt_tokens: int,
    context_tokens: int,
    sentence_starts: Callable[[], Sequence[int]],
    max_input_tokens: int,
    max_windows: int,
    truncate: Truncate,
) -> Plan | TooLong | None:
    """How a row becomes windows; None when the context has to go entirely (Truncate.CONTEXT alone).

    fixed_tokens: everything but the context, the prompt included. prompt_tokens: those that may be
    cut; one of them always stays. sentence_starts: asked for only when the context must be divided.
    """
    room = max_input_tokens - fixed_tokens
    needed_room = min(MIN_CONTEXT_TOKENS, context_tokens)
    cuttable = max(prompt_tokens - 1, 0) if truncate is Truncate.PROMPT else 0

    prompt_cut = max(needed_room - room, 0)
    if prompt_cut > cuttable:
        if truncate is Truncate.CONTEXT and context_tokens:
            return None
        return TooLong(fixed_tokens + needed_room, max_input_tokens, over_windows=False)
    if not context_tokens:
        return Plan(prompt_cut, ((0, 0),))

    def packed(cut: int) -> list[tuple[int, int]]:
        if context_tokens <= room + cut:
            return [(0, context_tokens)]
        return pack(context_tokens, sentence_starts(), room + cut)

    slices = packed(prompt_cut)
    if len(slices) > max_windows:
        if truncate is Truncate.CONTEXT:
            return Plan(0, tuple(slices[:max_windows]))
        if len(most := packed(cuttable)) > max_windows:
            return TooLong(len(most), max_windows, over_windows=True)
        low, high = (
            prompt_cut,
            cuttable,
        )  # packed(low) needs too many windows, packed(high) does not
        while high - low > 1:
            middle = (low + high) // 2
            if len(packed(middle)) > max_windows:
                low = middle
            else:
                high = middle
        prompt_cut, slices = high, packed(high)
    return Plan(prompt_cut, tuple(slices))
