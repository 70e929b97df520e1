"""The records every reader produces and every loss consumes.

One `Example` is one prompt with its evidence and K responses: one batch element, so that all pairs of a
prompt meet in one step (InstructGPT, arXiv:2203.02155) and a response is encoded once whatever the
number of pairs it takes part in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from typing import NamedTuple

from tureen.contracts import Message, Sample
from tureen.text.segments import Span

LOWEST_RATING, HIGHEST_RATING = 1.0, 5.0


class Pair(NamedTuple):
    """One response preferred over another.

    chosen, rejected: indices into `Example.responses`.
    margin: by how much, at least 0, in the units of the head's value: the loss asks for
        v(chosen) − v(rejected) above it. 0 where nobody said by how much; readers of graded judgments give
        a share in (0, 1] of the strongest grade, as Llama 2 does (arXiv:2307.09288, table 27, "small").
    rater: who said so, where known.
    weight: of its loss against the other pairs of the prompt, above 0: how far it is to be relied on.
    """

    chosen: int
    rejected: int
    margin: float = 0.0
    rater: str | None = None
    weight: float = 1.0


class Tie(NamedTuple):
    """Two responses between which a rater saw no difference: indices into `Example.responses`."""

    first: int
    second: int
    rater: str | None = None


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Pairs for the loss, and ties, which the loss leaves out and evaluation counts."""

    pairs: tuple[Pair, ...] = ()
    ties: tuple[Tie, ...] = ()

    def __add__(self, other: Comparisons) -> Comparisons:
        return Comparisons(self.pairs + other.pairs, self.ties + other.ties)


class Rating(NamedTuple):
    """One rater's mark of one response, from 1 to 5; comparable only with marks of the same rater."""

    response: int
    value: float
    rater: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The order in which one rater put the K responses of a prompt.

    ranks: one a response; the smaller is the better, equal ranks are a tie.
    margin: of a pair one rank apart; n ranks apart it is n times as much.
    """

    ranks: tuple[int, ...]
    rater: str | None = None
    margin: float = 0.0

    def comparisons(self) -> Comparisons:
        """All K(K − 1)/2 pairs and ties."""
        return compare([-rank for rank in self.ranks], margin=self.margin, rater=self.rater)


def compare(
    values: Sequence[float],
    *,
    tolerance: float = 0.0,
    margin: float = 0.0,
    rater: str | None = None,
) -> Comparisons:
    """All K(K − 1)/2 comparisons of K scored responses, the higher value chosen.

    Args:
        tolerance: values no further apart than this are a tie.
        margin: of a pair whose values are 1 apart.
    """
    pairs: list[Pair] = []
    ties: list[Tie] = []
    for i, j in combinations(range(len(values)), 2):
        difference = values[i] - values[j]
        if abs(difference) <= tolerance:
            ties.append(Tie(i, j, rater))
        else:
            chosen, rejected = (i, j) if difference > 0 else (j, i)
            pairs.append(Pair(chosen, rejected, margin * abs(difference), rater))
    return Comparisons(tuple(pairs), tuple(ties))


def compare_ratings(ratings: Iterable[Rating]) -> Comparisons:
    """All comparisons of responses that the same rater marked.

    The margin is the difference of the marks as a share of the whole scale.
    """
    by_rater: dict[str | None, list[Rating]] = {}
    for rating in ratings:
        by_rater.setdefault(rating.rater, []).append(rating)
    total = Comparisons()
    for rater, own in by_rater.items():
        marks = compare(
            [rating.value for rating in own],
            margin=1 / (HIGHEST_RATING - LOWEST_RATING),
            rater=rater,
        )
        total += Comparisons(
            tuple(
                pair._replace(
                    chosen=own[pair.chosen].response, rejected=own[pair.rejected].response
                )
                for pair in marks.pairs
            ),
            tuple(Tie(own[t.first].response, own[t.second].response, rater) for t in marks.ties),
        )
    return total


def cycle(pairs: Iterable[Pair]) -> tuple[int, ...] | None:
    """Responses each of which is preferred to the next, and the last of them to the first; None without one.

    No order of the responses agrees with all pairs of a cycle.
    """
    beaten_by: dict[int, set[int]] = {}
    for pair in pairs:
        beaten_by.setdefault(pair.rejected, set()).add(pair.chosen)
    try:
        TopologicalSorter(beaten_by).prepare()
    except CycleError as error:
        return tuple(error.args[1][:-1])  # graphlib repeats the first at the end
    return None


@dataclass(frozen=True, slots=True)
class SpanLabels:
    """What an annotator of one aspect said of one response.

    A unit that overlaps `errors` is an error (label 0); else, if it overlaps `ignored`, it says nothing;
    else it is clean (label 1). Higher is better, here as in every head.
    """

    errors: tuple[Span, ...] = ()
    ignored: tuple[Span, ...] = ()


class Comparison(StrEnum):
    """What made one response the better one of a pair."""

    PREFERENCE = "preference"  # people preferred it
    RATING = "rating"  # the same rater gave it the higher mark
    CORRECTION = "correction"  # it is the other one with its errors taken out
    COVERAGE = "coverage"  # it states more of what is wanted
    COMPLETION = "completion"  # it is the other one with missing information put in
    TRUTH = "truth"  # it is true and the other one is not


TEACHES: dict[str, tuple[Comparison, ...]] = {
    "preference": (Comparison.PREFERENCE, Comparison.RATING, Comparison.CORRECTION),
    "completeness": (Comparison.COVERAGE, Comparison.COMPLETION),
}
"""head -> the comparisons it learns from. Factuality and relevance learn from spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One prompt, K responses, and whatever is known of them, by head.

    prompt, messages: exactly one of them, as in `Sample`.
    pairs, ties: comparisons among the K responses, by what they rest on.
    spans: head -> for each of the K responses its span labels, or None where nobody looked.
    verdicts: head -> for each of the K responses whether it is free of errors, or None where nobody said.
    ratings: head -> marks of responses, where raters gave marks.
    origin: where it comes from: "feedback" of people on QA-Feedback, "contrast" made from a reference, or
        the name of a source.
    group: examples of one group always fall into the same part of a split; None is a group of its own.
    """

    prompt_id: str
    origin: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    context: tuple[str, ...] = ()
    responses: tuple[str, ...]
    pairs: Mapping[Comparison, tuple[Pair, ...]] = field(default_factory=dict)
    ties: Mapping[Comparison, tuple[Tie, ...]] = field(default_factory=dict)
    spans: Mapping[str, tuple[SpanLabels | None, ...]] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[bool | None, ...]] = field(default_factory=dict)
    ratings: Mapping[str, tuple[Rating, ...]] = field(default_factory=dict)
    group: str | None = None

    def sample(self) -> Sample:
        """The same prompt, context and responses as the server would be sent."""
        return Sample(
            id=self.prompt_id,
            prompt=self.prompt,
            messages=self.messages,
            context=self.context,
            responses=self.responses,
        )

    @property
    def split(self) -> Split:
        return split_of(self.group or self.prompt_id)

    def cycles(self) -> list[tuple[str | None, tuple[int, ...]]]:
        """Raters whose preferences run in a circle, each with one circle."""
        preferred = self.pairs.get(Comparison.PREFERENCE, ())
        found = []
        for rater in dict.fromkeys(pair.rater for pair in preferred):
            circle = cycle(pair for pair in preferred if pair.rater == rater)
            if circle is not None:
                found.append((rater, circle))
        return found


def group_of(prompt: str) -> str:
    """The group of a prompt that several sources share: its text without case and white space."""
    return " ".join(prompt.casefold().split())


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLIT_RULE = "tureen-split-2"
"""Name of `split_of`. Rule 1 had the same hash and the shares 0.60, 0.15, 0.25: what it trained on, and only that,
rule 2 trains on or chose hyper-parameters by."""


def split_of(prompt_id: str, *, train: float = 0.75, validation: float = 0.10) -> Split:
    """The fixed part a prompt belongs to: a hash of its id, so it never depends on order or on other prompts.

    The remaining share (0.15) is the test part.
    """
    digest = hashlib.sha256(f"tureen-split-1:{prompt_id}".encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    if u < train:
        return Split.TRAIN
    return Split.VALIDATION if u < train + validation else Split.TEST
