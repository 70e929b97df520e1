"""The records every reader produces and every loss consumes.

One `Example` is one prompt with its evidence and K responses: one batch element, so that all pairs of a
prompt meet in one step (SCIENCE: InstructGPT's K-wise rule) and a response is encoded once whatever the
number of pairs it takes part in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tureen.contracts import Sample
from tureen.text.segments import Span


class Pair(NamedTuple):
    """One response preferred over another.

    chosen, rejected: indices into `Example.responses`.
    margin: by how much, at least 0, in the units of the head's value: the loss asks for
        v(chosen) − v(rejected) above it.
    rater: who said so, where known.
    weight: of its loss against the other pairs of the prompt, above 0: how far it is to be relied on.
    """

    chosen: int
    rejected: int
    margin: float = 0.0
    rater: str | None = None
    weight: float = 1.0


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
    CORRECTION = "correction"  # it is the other one with its errors taken out
    COVERAGE = "coverage"  # it states more of what is wanted
    COMPLETION = "completion"  # it is the other one with missing information put in


TEACHES: dict[str, tuple[Comparison, ...]] = {
    "preference": (Comparison.PREFERENCE, Comparison.CORRECTION),
    "completeness": (Comparison.COVERAGE, Comparison.COMPLETION),
}
"""head -> the comparisons it learns from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One prompt, K responses, and whatever is known of them, by head.

    pairs: comparisons among the K responses, by what they rest on (ties are absent).
    spans: head -> for each of the K responses its span labels, or None where nobody looked.
    origin: "feedback" of people, or "contrast" made from a reference.
    """

    prompt_id: str
    origin: str
    prompt: str
    context: tuple[str, ...]
    responses: tuple[str, ...]
    pairs: Mapping[Comparison, tuple[Pair, ...]] = field(default_factory=dict)
    spans: Mapping[str, tuple[SpanLabels | None, ...]] = field(default_factory=dict)

    def sample(self) -> Sample:
        """The same prompt, context and responses as the server would be sent."""
        return Sample(
            id=self.prompt_id, prompt=self.prompt, context=self.context, responses=self.responses
        )


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def split_of(prompt_id: str, *, train: float = 0.60, validation: float = 0.15) -> Split:
    """The fixed part a prompt belongs to: a hash of its id, so it never depends on order or on other prompts.

    The remaining share (0.25) is the test part.
    """
    digest = hashlib.sha256(f"tureen-split-1:{prompt_id}".encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    if u < train:
        return Split.TRAIN
    return Split.VALIDATION if u < train + validation else Split.TEST
