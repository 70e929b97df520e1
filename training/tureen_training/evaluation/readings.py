"""What a model says of a response, wherever it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tureen.contracts import ErrorInfo, Score
from tureen.model import calibration
from tureen.model.manifest import HeadSpec
from tureen.text.segments import Span
from tureen_training.data.items import Item, Values, units_of


class HeadReading(NamedTuple):
    """One head. value: of the whole response. units: (S) where it speaks; values: (S) raw, one each."""

    value: float
    units: tuple[Span, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One response: the default reward, every head, and each member's reward where members were asked for."""

    reward: float
    heads: Mapping[str, HeadReading]
    members: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "reward": self.reward,
            **({"members": list(self.members)} if self.members else {}),
            "heads": {
                name: {
                    "value": head.value,
                    "units": [[*span, v] for span, v in zip(head.units, head.values, strict=True)],
                }
                for name, head in self.heads.items()
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Reading:
        return cls(
            reward=data["reward"],
            heads={
                name: HeadReading(
                    head["value"],
                    tuple(Span(start, end) for start, end, _ in head["units"]),
                    tuple(value for _, _, value in head["units"]),
                )
                for name, head in data["heads"].items()
            },
            members=tuple(data.get("members", ())),
        )

    @classmethod
    def of_score(cls, score: Score) -> Reading:
        """From what the service answered with segments."""
        return cls(
            reward=score.reward,
            heads={
                name: HeadReading(
                    head.value,
                    tuple(Span(s.start, s.end) for s in score.segments or () if s.head == name),
                    tuple(s.value for s in score.segments or () if s.head == name),
                )
                for name, head in score.heads.items()
            },
            members=score.members or (),
        )


Outcome = tuple[Reading, ...] | ErrorInfo
"""Of one sample: a reading of each response, or why there is none."""


def readings_of(
    items: Sequence[Item],
    values: Sequence[Sequence[Values]],
    heads: Sequence[HeadSpec],
    members: int = 0,
) -> list[tuple[Reading, ...]]:
    """The same from what `items.run` computed.

    Args:
        members: how many members' heads, named by `member_head`, are among the values.
    """
    return [
        tuple(_reading(answer, item, k, heads, members) for k, answer in enumerate(answers))
        for item, answers in zip(items, values, strict=True)
    ]


def member_head(head: HeadSpec, member: int) -> HeadSpec:
    """The head of one member, from 1; the soup's own is 0."""
    return replace(head, name=f"{head.name}@{member}") if member else head


def _reading(
    answer: Values, item: Item, response: int, heads: Sequence[HeadSpec], members: int
) -> Reading:
    found = {
        head.name: HeadReading(
            float(answer.response(head.name)),
            tuple(units_of(item.responses[response], head.granularity)),
            tuple(answer.by_head[head.name].tolist()),
        )
        for head in heads
    }
    of_members = [
        [float(answer.response(member_head(head, m).name)) for head in heads]
        for m in range(1, members + 1)
    ]
    return Reading(
        reward=float(calibration.rewards([found[head.name].value for head in heads], heads)),
        heads=found,
        members=tuple(float(calibration.rewards(values, heads)) for values in of_members),
    )
