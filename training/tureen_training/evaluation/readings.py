"""What a model says of a response, wherever it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """One response: the default reward, and every head."""

    reward: float
    heads: Mapping[str, HeadReading]

    def to_json(self) -> dict[str, Any]:
        return {
            "reward": self.reward,
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
        )


Outcome = tuple[Reading, ...] | ErrorInfo
"""Of one sample: a reading of each response, or why there is none."""


def readings_of(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> list[tuple[Reading, ...]]:
    """The same from what `items.run` computed."""
    return [
        tuple(_reading(answer, item, k, heads) for k, answer in enumerate(answers))
        for item, answers in zip(items, values, strict=True)
    ]


def _reading(answer: Values, item: Item, response: int, heads: Sequence[HeadSpec]) -> Reading:
    found = {
        head.name: HeadReading(
            float(answer.response(head.name)),
            tuple(units_of(item.responses[response], head.granularity)),
            tuple(answer.by_head[head.name].tolist()),
        )
        for head in heads
    }
    reward = calibration.rewards([found[head.name].value for head in heads], heads)
    return Reading(reward=float(reward), heads=found)
