"""Simulated annotators of known reliability and viewpoint: they rank responses and mark spans, as people do.

An annotator looks for the same errors as `gold`, weighs the kinds by a viewpoint, may like length, and is not always
honest or awake. What they write is a record of our own format (`tureen_training.data.own`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from tureen.text.segments import Span
from tureen_training.worlds.almanac.gold import ERRORS, Gold, judge
from tureen_training.worlds.almanac.render import parse
from tureen_training.worlds.almanac.world import Item

MARKED = {"factuality": "wrong_spans", "relevance": "unasked_spans"}
"""head -> the errors an annotator marks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """One simulated rater.

    reliability: η of Crowd-BT: probability that a comparison is the one of the annotator's own viewpoint, in
        [0.5, 1]; 0.5 is chance. A ranking is either that of the viewpoint, or with probability 2(1 − η) any.
        A sentence is labelled rightly, and a pair for completeness ordered rightly, with probability η.
    viewpoint: error -> how much one of it weighs.
    length_bias: what ten words more are worth, in errors of weight 1.
    """

    name: str
    reliability: float = 0.9
    viewpoint: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ERRORS, 1.0))
    length_bias: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.reliability <= 1:
            raise ValueError(f"reliability is {self.reliability}; it must be in [0.5, 1]")
        if set(self.viewpoint) != set(ERRORS):
            raise ValueError(
                f"viewpoint names {', '.join(self.viewpoint)}; it must weigh {', '.join(ERRORS)}"
            )

    def utility(self, gold: Gold, response: str) -> float:
        """−Σ weight · errors + length_bias · words / 10."""
        errors = sum(weight * getattr(gold, name) for name, weight in self.viewpoint.items())
        return self.length_bias * len(response.split()) / 10 - errors

    def ranks(self, utilities: Sequence[float], rng: random.Random) -> list[int]:
        """One a response, 1 the best; equal utilities tie, unless the annotator does not look."""
        if rng.random() < 2 * (1 - self.reliability):
            return rng.sample(range(1, len(utilities) + 1), len(utilities))
        return [1 + sum(other > own for other in utilities) for own in utilities]

    def spans(
        self, sentences: Sequence[Span], errors: Sequence[Span], rng: random.Random
    ) -> list[Span]:
        """The sentences the annotator takes for errors."""
        return [
            span
            for span in sentences
            if (span in errors) == (rng.random() < self.reliability)
        ]  # fmt: skip


def _viewpoint(wrong: float, unasked: float, missing: float) -> dict[str, float]:
    return dict(zip(ERRORS, (wrong, unasked, missing), strict=True))


PANEL = (
    Annotator(name="checker", reliability=0.94, viewpoint=_viewpoint(1.0, 0.3, 0.3)),
    Annotator(name="editor", reliability=0.9, viewpoint=_viewpoint(0.3, 1.0, 0.3)),
    Annotator(name="examiner", reliability=0.9, viewpoint=_viewpoint(0.3, 0.3, 1.0)),
    Annotator(name="hasty", reliability=0.75, length_bias=0.3),
)
"""Three viewpoints, and one who looks at everything in a hurry and likes long responses."""


def annotate(
    item: Item, responses: Sequence[str], annotators: Sequence[Annotator], rng: random.Random
) -> dict[str, Any]:
    """A record of our own format: each annotator ranks and orders by completeness, the first one marks spans."""
    golds = [judge(item, response) for response in responses]
    record: dict[str, Any] = {
        "id": item.id,
        "prompt": item.prompt,
        "context": list(item.context),
        "responses": list(responses),
        "rankings": [],
        "pairs": [],
    }
    for annotator in annotators:
        utilities = [annotator.utility(*pair) for pair in zip(golds, responses, strict=True)]
        ranks = annotator.ranks(utilities, rng)
        record["rankings"].append({"ranks": ranks, "rater": annotator.name})
        for i, j in combinations(range(len(responses)), 2):
            difference = golds[i].missing_facts - golds[j].missing_facts
            if difference:
                fuller, poorer = (i, j) if difference < 0 else (j, i)
                if rng.random() >= annotator.reliability:
                    fuller, poorer = poorer, fuller
                mark = {"chosen": fuller, "rejected": poorer, "kind": "coverage"}
                record["pairs"].append({**mark, "rater": annotator.name})
    sentences = [[s.span for s in parse(response)] for response in responses]
    record["spans"] = {
        head: [
            [list(span) for span in annotators[0].spans(own, getattr(gold, errors), rng)]
            for own, gold in zip(sentences, golds, strict=True)
        ]
        for head, errors in MARKED.items()
    }
    return record
