"""A soup that scores what the active one scores, and answers nobody: how far apart are the two?"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context

import numpy as np

from tureen.contracts import Aggregation, Priority, Sample, Score, ScoreOptions, ShadowReport
from tureen.engine.reward_watch import spearman
from tureen.engine.serving import Outcome, Serving
from tureen.errors import TureenError
from tureen.model.drift import drift, reward_reference

COMPARED = 2048  # latest responses
ENOUGH = 20  # responses, before anything is said of them
BEHIND = 256  # responses on their way, above which others are skipped


class Shadow:
    """Compares rewards of the model's own heads and weights; for one event loop."""

    def __init__(self, serving: Serving) -> None:
        self.fingerprint = serving.info.fingerprint
        self._serving: Serving | None = serving  # while it goes on
        self._pairs: deque[tuple[float, float]] = deque(maxlen=COMPARED)  # active, shadow
        self._responses = self._skipped = self._failed = self._pending = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(
        self, samples: Sequence[Sample], options: ScoreOptions, outcomes: Sequence[Outcome]
    ) -> None:
        """Scores the same samples behind the answer's back."""
        answered = [
            (sample, outcome)
            for sample, outcome in zip(samples, outcomes, strict=True)
            if not isinstance(outcome, TureenError)
        ]
        count = sum(len(scores) for _, scores in answered)
        own = options.heads is None and options.weights is None
        if self._serving is None or not count:
            return
        if not own or options.aggregation is not Aggregation.MEAN or self._pending + count > BEHIND:
            self._skipped += count
            return
        self._pending += count
        # A context of its own: the caller's name and trace are not for this.
        plain = ScoreOptions(truncate=options.truncate, segments=False)
        scoring = self._score(self._serving, answered, plain)
        task = asyncio.get_running_loop().create_task(scoring, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _score(
        self,
        serving: Serving,
        answered: Sequence[tuple[Sample, tuple[Score, ...]]],
        options: ScoreOptions,
    ) -> None:
        count = sum(len(scores) for _, scores in answered)
        samples = [sample for sample, _ in answered]
        try:
            with serving.used():
                outcomes, _ = await serving.evaluate(
                    samples, options, lane=Priority.BULK, deadline_ns=None
                )
        except TureenError:
            self._failed += count
            return
        finally:
            self._pending -= count
        for (_, scores), outcome in zip(answered, outcomes, strict=True):
            if isinstance(outcome, TureenError):
                self._failed += len(scores)
                continue
            self._responses += len(scores)
            self._pairs += [
                (one.reward, other.reward) for one, other in zip(scores, outcome, strict=True)
            ]

    def report(self) -> ShadowReport:
        report = {
            "responses": self._responses,
            "skipped": self._skipped,
            "failed": self._failed,
        }
        if len(self._pairs) < ENOUGH:
            return ShadowReport(**report)
        active, shadow = np.array(self._pairs).T
        return ShadowReport(
            **report,
            rank_correlation=spearman(active, shadow),
            drift_psi=drift(shadow, reward_reference(active)),
            mean_active=float(active.mean()),
            mean_shadow=float(shadow.mean()),
            largest_change=float(np.abs(shadow - active).max()),
        )

    def stop(self) -> None:
        """What is on its way is dropped; the report is kept, and the soup not for its sake."""
        for task in self._tasks:
            task.cancel()
        self._serving = None
