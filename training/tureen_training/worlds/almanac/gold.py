"""What a response is worth, exactly: the three kinds of errors, counted. For evaluation only.

Each sentence of a response is one statement (see `render.parse`). Against the passages and the question it is

    right       it states an asked fact, for the first time
    wrong       no passage states it: a wrong value, another entity's value, rubbish
    unasked     nobody asked for it: another attribute or entity, an asked fact again, rubbish

A wrong value of an asked attribute is wrong, and the fact is not missing as well; a wrong value of what was not asked
for is both wrong and unasked, and so is rubbish. Missing are the asked facts whose attribute no statement speaks of.

    score = 1 − (wrong + unasked + missing) / asked

1 is a perfect response, 0 is silence, and there is no lower end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tureen.text.segments import Span
from tureen_training.metrics import Figure, bootstrap
from tureen_training.worlds.almanac.render import parse
from tureen_training.worlds.almanac.world import Item

ERRORS = ("wrong_facts", "unasked_facts", "missing_facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """wrong_spans, unasked_spans: the statements that are counted, as characters of the response.
    rubbish: sentences that state no fact of any form; they are among both."""

    score: float
    asked: int
    wrong_spans: tuple[Span, ...]
    unasked_spans: tuple[Span, ...]
    missing_facts: int
    rubbish: int

    @property
    def wrong_facts(self) -> int:
        return len(self.wrong_spans)

    @property
    def unasked_facts(self) -> int:
        return len(self.unasked_spans)


def judge(item: Item, response: str) -> Gold:
    """Reads nothing but the passages' facts, the question's and the response."""
    asked = {(fact.entity, fact.attribute) for fact in item.asked}
    open_facts = set(asked)
    wrong: list[Span] = []
    unasked: list[Span] = []
    rubbish = 0
    for statement in parse(response):
        fact = statement.fact
        if fact is None:
            rubbish += 1
        if fact not in item.facts:
            wrong.append(statement.span)
        if fact is None or (fact.entity, fact.attribute) not in open_facts:
            unasked.append(statement.span)
        else:
            open_facts.remove((fact.entity, fact.attribute))
    errors = len(wrong) + len(unasked) + len(open_facts)
    return Gold(
        score=1 - errors / len(asked),
        asked=len(asked),
        wrong_spans=tuple(wrong),
        unasked_spans=tuple(unasked),
        missing_facts=len(open_facts),
        rubbish=rubbish,
    )


def figures(golds: Sequence[Gold], baselines: Mapping[str, Sequence[Gold]]) -> dict[str, Figure]:
    """Mean gold score, facts of each error per response, and share of responses with each error.

    The names of the shares end in `_rate`. Intervals are over responses, which must be to different prompts.

    Args:
        baselines: judgements of trivial policies on the same prompts, at least one.
    """
    readings = {name: rows(judged) for name, judged in baselines.items()}
    own = rows(golds)
    return {
        name: bootstrap(
            [np.array([value]) for value in values],
            lambda drawn: float(drawn.mean()),
            baselines={label: float(given[name].mean()) for label, given in readings.items()},
        )
        for name, values in own.items()
    }


def trivial(items: Sequence[Item]) -> dict[str, list[Gold]]:
    """Baselines of `figures`: who says nothing, and who recites the passages."""
    return {
        "silence": [judge(item, "") for item in items],
        "recital": [judge(item, " ".join(item.context)) for item in items],
    }


def rows(golds: Iterable[Gold]) -> dict[str, np.ndarray]:
    """One number a response, by the name of the figure that its mean is."""
    golds = list(golds)
    found = {"score": np.array([gold.score for gold in golds])}
    for name in ERRORS:
        counts = np.array([getattr(gold, name) for gold in golds], dtype=float)
        found[name] = counts
        found[f"{name}_rate"] = (counts > 0).astype(float)
    found["perfect_rate"] = (found["score"] == 1).astype(float)
    return found
