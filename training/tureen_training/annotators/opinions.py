"""What raters said of examples, as votes and as comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tureen_training.annotators.votes import Vote, Votes
from tureen_training.data.records import Comparison, Example


def prompt_of(item: str) -> str:
    """The prompt that an item of the votes below belongs to."""
    return item.rpartition(": ")[0]


class Opinion(NamedTuple):
    """One rater on one pair of responses. advantage: of the response listed first: above 0 where the rater
    preferred it, by the margin given or by 1, 0 for a tie. lengths: of both, in characters."""

    prompt_id: str
    first: int
    second: int
    rater: str
    advantage: float
    graded: bool
    lengths: tuple[int, int]


def opinions(examples: Iterable[Example]) -> Iterator[Opinion]:
    """Every preference and tie with a known rater, the response of the lower index first."""
    for example in examples:
        said = [
            (pair.chosen, pair.rejected, pair.rater, pair.margin or 1.0, pair.margin > 0)
            for pair in example.pairs.get(Comparison.PREFERENCE, ())
        ]
        said += [
            (tie.first, tie.second, tie.rater, 0.0, True)
            for tie in example.ties.get(Comparison.PREFERENCE, ())
        ]
        for one, other, rater, margin, graded in said:
            if rater is None:
                continue
            first, second = min(one, other), max(one, other)
            yield Opinion(
                example.prompt_id,
                first,
                second,
                rater,
                margin if one == first else -margin,
                graded,
                (len(example.responses[first]), len(example.responses[second])),
            )


def comparison_votes(said: Sequence[Opinion], *, grades: bool = True) -> tuple[Votes, np.ndarray]:
    """Votes on pairs, labels in the order of the first response's advantage, and the label's advantage.

    Labels are the grades that were given, where they are wanted and every preference has one, else second,
    tie, first.
    """
    graded = grades and all(opinion.graded for opinion in said)
    advantages = [o.advantage if graded else float(np.sign(o.advantage)) for o in said]
    values = sorted({0.0, *advantages, *(-advantage for advantage in advantages)})
    names = {value: _name(value, graded) for value in values}
    votes = Votes.of(
        (
            Vote(f"{o.prompt_id}: {o.first}, {o.second}", o.rater, names[advantage])
            for o, advantage in zip(said, advantages, strict=True)
        ),
        labels=[names[value] for value in values],
    )
    return votes, np.array(values)


def _name(advantage: float, graded: bool) -> str:
    if advantage == 0:
        return "tie"
    side = "first" if advantage > 0 else "second"
    return f"{side} by {abs(advantage):.3g}" if graded else side


def rating_votes(examples: Iterable[Example], head: str) -> tuple[Votes, np.ndarray] | None:
    """Votes on responses, labels the marks that were given, and their values; None where nobody marked."""
    marks = [
        (f"{example.prompt_id}: {mark.response}", mark.rater, mark.value)
        for example in examples
        for mark in example.ratings.get(head, ())
        if mark.rater is not None
    ]
    if not marks:
        return None
    values = sorted({value for _, _, value in marks})
    votes = Votes.of(
        (Vote(item, rater, f"{value:g}") for item, rater, value in marks),
        labels=[f"{value:g}" for value in values],
    )
    return votes, np.array(values)


@dataclass(frozen=True, slots=True)
class Duels:
    """Preferences without ties, coded for `crowd_bt.fit`. Each (P,)"""

    chosen: np.ndarray
    rejected: np.ndarray
    raters: np.ndarray
    rater_names: tuple[str, ...]


def duels(said: Sequence[Opinion]) -> Duels:
    """Raises ValueError where every opinion is a tie."""
    decided = [opinion for opinion in said if opinion.advantage]
    if not decided:
        raise ValueError("every opinion is a tie; there is no preference to learn from")
    responses: dict[tuple[str, int], int] = {}
    raters: dict[str, int] = {}

    def code(prompt_id: str, response: int) -> int:
        return responses.setdefault((prompt_id, response), len(responses))

    coded = []
    for o in decided:
        wins, loses = (o.first, o.second) if o.advantage > 0 else (o.second, o.first)
        rater = raters.setdefault(o.rater, len(raters))
        coded.append((code(o.prompt_id, wins), code(o.prompt_id, loses), rater))
    chosen, rejected, by = np.array(coded).T
    return Duels(chosen, rejected, by, tuple(raters))
