"""Which part of the context stands in which window, and what is cut. Counts of tokens only."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tureen.contracts import Truncate
from tureen.errors import InputTooLong

MIN_CONTEXT_TOKENS: Final = 32
"""A window has room for so many tokens of context (or for all of a shorter one)."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What the windows of a row hold.

    prompt_cut: tokens cut from the start of the prompt. slices: (start, end) tokens of the context,
    one a window; a single empty slice where there is no context.
    """

    prompt_cut: int
    slices: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TooLong:
    """Why there is no plan; tokens of one window, or windows where those are what is exceeded."""

    needed: int
    allowed: int
    over_windows: bool


def pack(context_tokens: int, sentence_starts: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Consecutive slices of at most `room` >= 1 tokens that end with a sentence wherever one ends.

    Greedy, which for pieces in order is as few windows as possible; more room never needs more.
    sentence_starts: ascending token indices; a sentence longer than `room` is cut by tokens.
    """
    slices: list[tuple[int, int]] = []
    start = 0
    while start < context_tokens:
        end = min(start + room, context_tokens)
        if end < context_tokens:
            following = bisect_right(sentence_starts, end)
            if following and sentence_starts[following - 1] > start:
                end = sentence_starts[following - 1]
        slices.append((start, end))
        start = end
    return slices


def plan_windows(
    *,
    fixed_tokens: int,
    prompt_tokens: int,
    context_tokens: int,
    sentence_starts: Callable[[], Sequence[int]],
    max_input_tokens: int,
    max_windows: int,
    truncate: Truncate,
) -> WindowPlan | TooLong:
    """How a row becomes windows.

    Under Truncate.PROMPT the prompt loses as little as will do and the context nothing; under
    Truncate.CONTEXT the context loses what does not fit into max_windows, but a window that has no
    room for context at all is too long.

    Args:
        fixed_tokens: all but the context, so with the prompt.
        prompt_tokens: of these, what may be cut; one token always stays.
        sentence_starts: asked for only when the context must be divided.
    """
    room = max_input_tokens - fixed_tokens
    needed_room = min(MIN_CONTEXT_TOKENS, context_tokens)
    cuttable = max(prompt_tokens - 1, 0) if truncate is Truncate.PROMPT else 0

    prompt_cut = max(needed_room - room, 0)
    if prompt_cut > cuttable:
        return TooLong(fixed_tokens + needed_room, max_input_tokens, over_windows=False)
    if not context_tokens:
        return WindowPlan(prompt_cut, ((0, 0),))

    def packed(cut: int) -> list[tuple[int, int]]:
        if context_tokens <= room + cut:
            return [(0, context_tokens)]
        return pack(context_tokens, sentence_starts(), room + cut)

    if len(slices := packed(prompt_cut)) > max_windows:
        if truncate is Truncate.CONTEXT:
            return WindowPlan(0, tuple(slices[:max_windows]))
        if len(fewest := packed(cuttable)) > max_windows:
            return TooLong(len(fewest), max_windows, over_windows=True)
        cuts = range(prompt_cut, cuttable + 1)
        prompt_cut = cuts[bisect_left(cuts, -max_windows, key=lambda cut: -len(packed(cut)))]
        slices = packed(prompt_cut)
    return WindowPlan(prompt_cut, tuple(slices))


def refusal(index: int, why: TooLong, limit: int, truncate: Truncate) -> InputTooLong:
    """What to tell about response `index` of a sample; limit: max_input_tokens."""
    if why.over_windows:
        return InputTooLong(
            f"responses[{index}] needs {why.needed} windows of {limit} tokens "
            f"(max_input_tokens) for its context; this model takes {why.allowed} "
            '(max_windows). Send less context, or truncate="context" to drop its end.',
            field="context",
            got=why.needed,
            limit=why.allowed,
        )
    remedy = ""
    if truncate is not Truncate.PROMPT:
        remedy = ', or send truncate="prompt" to keep the end of the prompt and the whole response'
    return InputTooLong(
        f"responses[{index}] is {why.needed} tokens with its prompt (and the least room for "
        "context, where there is any); this model takes "
        f"{why.allowed} (max_input_tokens). Shorten it{remedy}.",
        field=f"responses[{index}]",
        got=why.needed,
        limit=why.allowed,
    )
