"""Rewards of segments on the caller's tokens, computed by hand."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen.contracts import Segment
from tureen.text.alignment import token_rewards


def segment(start: int, end: int, reward: float) -> Segment:
    return Segment(head="factuality", start=start, end=end, value=0.0, reward=reward)


WORDS = ((0, 9), (9, 17), (17, 20), (20, 23), (23, 28), (28, 29))  # tile 29 characters


@pytest.mark.parametrize(
    ("segments", "offsets", "expected"),
    [
        # The whole response lands on the last token.
        ([segment(0, 29, 1.5)], WORDS, [0, 0, 0, 0, 0, 1.5]),
        # 18 cuts the token (17, 20), the last to overlap the first segment.
        ([segment(0, 18, 1.0), segment(18, 29, 2.0)], WORDS, [0, 0, 1.0, 0, 0, 2.0]),
        # A segment that ends where a token starts does not reach it.
        ([segment(0, 17, 1.0)], WORDS, [0, 1.0, 0, 0, 0, 0]),
        # Two segments inside one token, and the response-level one: they add up.
        ([segment(0, 2, 1.0), segment(2, 4, 0.25), segment(0, 4, 2.0)], ((0, 4),), [3.25]),
        # In the gap 4..6: the last token before its end.
        ([segment(4, 6, 1.0)], ((0, 2), (2, 4), (6, 8)), [0, 1.0, 0]),
        # Before every token: the first.
        ([segment(0, 2, 1.0)], ((3, 5), (5, 8)), [1.0, 0]),
        # After every token: the last.
        ([segment(6, 9, 1.0)], ((3, 5), (5, 6)), [0, 1.0]),
        # A token without width overlaps nothing, …
        ([segment(0, 4, 1.0)], ((0, 4), (4, 4)), [1.0, 0]),
        # … but catches what would otherwise have no place.
        ([segment(4, 6, 1.0)], ((0, 2), (5, 5), (7, 8)), [0, 1.0, 0]),
        ([segment(0, 6, 1.0)], ((0, 0), (0, 0)), [0, 1.0]),
        ([segment(0, 3, 1.0)], ((5, 5),), [1.0]),
        ([], ((0, 1), (1, 2)), [0, 0]),
    ],
)
def test_where_a_reward_lands(segments, offsets, expected):
    assert token_rewards(segments, offsets) == expected


@st.composite
def alignments(draw):
    cuts = sorted(draw(st.lists(st.integers(0, 40), min_size=2, max_size=24)))
    offsets = draw(
        st.lists(st.sampled_from(list(pairwise(cuts))), min_size=1, max_size=12, unique=True)
    )
    edges = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=12)))
    rewards = st.floats(-100, 100)
    segments = [segment(start, end, draw(rewards)) for start, end in pairwise(edges)]
    return segments, sorted(offsets)


@given(alignments())
@settings(deadline=None, max_examples=300)
def test_the_sum_is_conserved_and_the_last_overlapping_token_takes_it(case):
    segments, offsets = case
    total = sum(part.reward for part in segments)
    assert sum(token_rewards(segments, offsets)) == pytest.approx(total, abs=1e-9)
    for part in segments:
        overlapping = [
            token
            for token, (start, end) in enumerate(offsets)
            if max(start, part.start) < min(end, part.end)
        ]
        if overlapping and part.reward:
            (landed,) = (t for t, r in enumerate(token_rewards([part], offsets)) if r)
            assert landed == overlapping[-1]
