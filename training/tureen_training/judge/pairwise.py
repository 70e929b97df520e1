"""Comparisons in both orders: a verdict that turns with the order is no preference.

Judges favour the response shown first (56 % of readable comparisons against 30 % in the GPT-4 verdicts on the
Vicuna questions that come with QLoRA), so each pair is asked twice and the share of turned verdicts is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tureen_training.judge.rubric import FIRST, SECOND, TIE


@dataclass(frozen=True, slots=True)
class BothOrders:
    """forward: verdict with the first response shown as A. backward: with the second shown as A.

    Both are FIRST, SECOND or TIE of the responses in the order of the data, not in the order shown.
    """

    forward: int
    backward: int

    @classmethod
    def read(cls, forward: int, shown_swapped: int) -> BothOrders:
        """From the verdicts as given; that on the swapped pair speaks of the other response."""
        return cls(forward, -shown_swapped)

    @property
    def verdict(self) -> int:
        """What both orders say; TIE where they differ, whichever way."""
        return self.forward if self.forward == self.backward else TIE

    @property
    def turned(self) -> bool:
        """Whether the order alone changed the verdict."""
        return self.forward != self.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """pairs: asked in both orders. disagreement_rate: share of them whose verdict turned with the order.
    first_shown_rate: share of the decided verdicts, both orders counted, that went to the response shown first;
    ½ without bias; None where nothing was decided."""

    pairs: int
    disagreement_rate: float
    first_shown_rate: float | None


def position_bias(comparisons: Sequence[BothOrders]) -> PositionBias | None:
    """None without any comparison."""
    if not comparisons:
        return None
    shown_first = sum((c.forward == FIRST) + (c.backward == SECOND) for c in comparisons)
    decided = sum((c.forward != TIE) + (c.backward != TIE) for c in comparisons)
    return PositionBias(
        pairs=len(comparisons),
        disagreement_rate=sum(c.turned for c in comparisons) / len(comparisons),
        first_shown_rate=shown_first / decided if decided else None,
    )
