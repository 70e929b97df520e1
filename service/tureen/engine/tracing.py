"""What the engine tells of a request that is traced; whoever traces it is behind the door.

tokenize     text to tokens, the wait for a tokenizer thread included
queue        of the window that waited longest for the device
forward      one for each batch in which windows of the request were
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Protocol

from tureen.contracts import ModelInfo, Score
from tureen.engine.queue import Entry
from tureen.errors import TureenError

MOST_REWARDS = 128
"""Rewards that a trace holds one by one; of more it has the mean."""

Attributes = Mapping[str, str | int | float | Sequence[float]]


class Trace(Protocol):
    """The trace of one request; times are those of `time.monotonic_ns`."""

    trace_id: str

    def step(self, name: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """A part of it that is over."""
        ...

    def describe(self, attributes: Attributes) -> None:
        """What is known of the request as a whole."""
        ...


def tell(
    trace: Trace,
    info: ModelInfo,
    outcomes: Sequence[tuple[Score, ...] | TureenError],
    entries: Sequence[Entry],
    tokenized_ns: tuple[int, int],
) -> None:
    """A request that was answered.

    Args:
        outcomes: of its samples. entries: all of its windows, those remembered included.
        tokenized_ns: from when to when.
    """
    trace.step("tokenize", *tokenized_ns, {"tureen.windows": len(entries)})
    run = [entry for entry in entries if entry.forward_ns]
    if run:
        slowest = max(run, key=lambda entry: entry.queue_ns)
        start_ns = slowest.enqueued_ns
        trace.step(
            "queue", start_ns, start_ns + slowest.queue_ns, {"tureen.lane": slowest.lane.value}
        )
    batches = Counter((entry.enqueued_ns + entry.queue_ns, entry.forward_ns) for entry in run)
    for (start_ns, took_ns), windows in batches.items():
        trace.step("forward", start_ns, start_ns + took_ns, {"tureen.windows": windows})
    rewards = [score.reward for scores in outcomes if isinstance(scores, tuple) for score in scores]
    described: dict[str, str | int | float | Sequence[float]] = {
        "tureen.model": info.id,
        "tureen.fingerprint": info.fingerprint,
        "tureen.soup": info.soup,
        "tureen.samples": len(outcomes),
        "tureen.unscorable": sum(isinstance(outcome, TureenError) for outcome in outcomes),
        "tureen.responses": len(rewards),
        "tureen.rewards": rewards[:MOST_REWARDS],
    }
    if rewards:
        described["tureen.reward.mean"] = fmean(rewards)
    trace.describe(described)
