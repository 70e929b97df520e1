"""Rewards of segments put onto the caller's own tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from tureen.contracts import Segment


def token_rewards(segments: Sequence[Segment], offsets: Sequence[tuple[int, int]]) -> list[float]:
    """The reward of each caller token; together they are the reward of all segments.

        r_t = Σ_s reward_s · [t = last token that overlaps s]

    Rewards that land on one token add up (Fine-Grained RLHF overwrites there, which loses reward).
    A segment that no token overlaps, because tokens leave gaps or have no width, lands on the last
    token that ends at or before its end, and where there is none on the first token.

    Args:
        offsets: T >= 1 half-open character ranges of the response, ascending and disjoint, some
            possibly without width.
    Returns:
        T rewards.
    """
    wide = [token for token, (start, end) in enumerate(offsets) if start < end]
    wide_starts = [offsets[token][0] for token in wide]
    ends = list(accumulate((end for _, end in offsets), max))
    rewards = [0.0] * len(offsets)
    for segment in segments:
        # The last token with width that starts before the segment ends: if it misses, all do.
        nearest = bisect_left(wide_starts, segment.end) - 1
        if nearest >= 0 and offsets[wide[nearest]][1] > segment.start:
            token = wide[nearest]
        else:
            token = max(bisect_right(ends, segment.end) - 1, 0)
        rewards[token] += segment.reward
    return rewards
