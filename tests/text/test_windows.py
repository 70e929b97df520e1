"""Packing and planning on token counts, worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen.contracts import Truncate
from tureen.text.windows import TooLong, WindowPlan, pack, plan_windows

NEVER, CONTEXT, PROMPT = Truncate.NEVER, Truncate.CONTEXT, Truncate.PROMPT


@pytest.mark.parametrize(
    ("context_tokens", "sentence_starts", "room", "slices"),
    [
        (10, [0, 4, 8], 10, [(0, 10)]),
        (10, [0, 4, 8], 8, [(0, 8), (8, 10)]),
        (10, [0, 4, 8], 7, [(0, 4), (4, 10)]),
        (10, [0, 4, 8], 3, [(0, 3), (3, 4), (4, 7), (7, 10)]),  # cut inside sentences
        (5, [], 2, [(0, 2), (2, 4), (4, 5)]),
        (4, [0, 0, 2, 4, 4], 2, [(0, 2), (2, 4)]),  # sentences without tokens
        (0, [], 5, []),
    ],
)
def test_pack(context_tokens, sentence_starts, room, slices):
    assert pack(context_tokens, sentence_starts, room) == slices


@given(st.integers(1, 60), st.sets(st.integers(0, 60)).map(sorted), st.integers(1, 60))
@settings(deadline=None)
def test_more_room_never_needs_more_windows(context_tokens, sentence_starts, room):
    slices = pack(context_tokens, sentence_starts, room)
    assert [edge for part in slices for edge in part][1:-1:2] == [part[0] for part in slices[1:]]
    assert slices[0][0] == 0
    assert slices[-1][1] == context_tokens
    assert all(0 < end - start <= room for start, end in slices)
    assert len(pack(context_tokens, sentence_starts, room + 1)) <= len(slices)


def planned(fixed, prompt, context, truncate, *, limit=100, windows=1, sentence=10):
    return plan_windows(
        fixed_tokens=fixed,
        prompt_tokens=prompt,
        context_tokens=context,
        sentence_starts=lambda: list(range(0, context, sentence)),
        max_input_tokens=limit,
        max_windows=windows,
        truncate=truncate,
    )


@pytest.mark.parametrize("truncate", Truncate)
def test_what_fits_is_left_alone(truncate):
    assert planned(60, 20, 40, truncate) == WindowPlan(0, ((0, 40),))
    assert planned(100, 20, 0, truncate) == WindowPlan(0, ((0, 0),))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # 45 tokens of room hold 4 sentences of 10.
        ((55, 20, 75, NEVER), TooLong(2, 1, over_windows=True)),
        ((55, 20, 75, CONTEXT), WindowPlan(0, ((0, 40),))),
        # 75 tokens need 30 more of room.
        ((55, 40, 75, PROMPT), WindowPlan(30, ((0, 75),))),
        # But one token of the prompt stays: 29 of 30 do not do.
        ((55, 30, 75, PROMPT), TooLong(2, 1, over_windows=True)),
        # 20 tokens of room for 40 of context, where 32 are the least.
        ((80, 20, 40, NEVER), TooLong(112, 100, over_windows=False)),
        ((80, 20, 40, CONTEXT), TooLong(112, 100, over_windows=False)),
        ((80, 30, 40, PROMPT), WindowPlan(20, ((0, 40),))),
        # All of a shorter context must have room.
        ((80, 20, 21, NEVER), TooLong(101, 100, over_windows=False)),
        # No context: prompt and response alone are too long.
        ((101, 20, 0, NEVER), TooLong(101, 100, over_windows=False)),
        ((101, 20, 0, CONTEXT), TooLong(101, 100, over_windows=False)),
        ((105, 20, 0, PROMPT), WindowPlan(5, ((0, 0),))),
        ((119, 20, 0, PROMPT), WindowPlan(19, ((0, 0),))),
        ((120, 20, 0, PROMPT), TooLong(120, 100, over_windows=False)),
        ((101, 0, 0, PROMPT), TooLong(101, 100, over_windows=False)),
    ],
)
def test_one_window(arguments, expected):
    assert planned(*arguments) == expected


def test_several_windows():
    assert planned(55, 20, 75, NEVER, windows=2) == WindowPlan(0, ((0, 40), (40, 75)))
    assert planned(55, 20, 95, CONTEXT, windows=2) == WindowPlan(0, ((0, 40), (40, 80)))
    # 95 tokens into 2 windows: 50 + 45, so 5 more tokens of room.
    assert planned(55, 20, 95, PROMPT, windows=2) == WindowPlan(5, ((0, 50), (50, 95)))


@given(st.integers(0, 80), st.integers(0, 150), st.integers(0, 400), st.integers(1, 4))
@settings(deadline=None, max_examples=300)
def test_a_prompt_loses_no_more_than_it_must(prompt, rest, context, windows):
    fixed = prompt + rest
    outcome = planned(fixed, prompt, context, PROMPT, windows=windows)
    without_cut = planned(fixed, prompt, context, NEVER, windows=windows)
    if isinstance(without_cut, WindowPlan):
        assert outcome == without_cut
    elif isinstance(outcome, WindowPlan):
        cut = outcome.prompt_cut
        assert 0 < cut < prompt
        assert len(outcome.slices) <= windows
        assert isinstance(
            planned(fixed - cut + 1, prompt, context, NEVER, windows=windows), TooLong
        )
