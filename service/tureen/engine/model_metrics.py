"""What is counted for one model; the metrics themselves are `metrics`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from tureen.contracts import ModelInfo, Priority, Score
from tureen.engine.reward_watch import Reading, RewardWatch

if TYPE_CHECKING:
    from tureen.engine.metrics import Metrics

QueueSize = Callable[[Priority], tuple[int, int]]
"""Lane -> entries and tokens that wait."""


class ModelMetrics:
    """What the engine counts for one model; its labels are looked up once."""

    def __init__(self, metrics: Metrics, info: ModelInfo, watch: RewardWatch) -> None:
        self.bind(metrics, info, watch)

    def bind(self, metrics: Metrics, info: ModelInfo, watch: RewardWatch) -> None:
        """From now on counts there, and watches rewards so."""
        model = info.id
        self._metrics, self._model, self._watch = metrics, model, watch
        self._tokenize_seconds = metrics._tokenize_seconds.labels(model)
        self._wait_seconds = metrics._wait_seconds.labels(model)
        self._forward_seconds = metrics._forward_seconds.labels(model)
        self._batch_rows = metrics._batch_rows.labels(model)
        self._batch_tokens = metrics._batch_tokens.labels(model)
        self._tokens = metrics._tokens.labels(model)
        self._padding = metrics._padding.labels(model)
        self._max_batch_tokens = metrics._max_batch_tokens.labels(model)
        self._cache = {
            outcome: metrics._cache.labels(model, outcome) for outcome in ("hit", "joined", "miss")
        }
        self._isolated = metrics._isolated.labels(model)
        self._restarts = metrics._restarts.labels(model)
        self._nonfinite = metrics._nonfinite.labels(model)
        self._rewards = _Signed(metrics._rewards, metrics._signed_reward, model)
        self._heads = {
            head.name: _Signed(metrics._heads, metrics._signed_heads, model, head.name)
            for head in info.heads
        }
        self._reward_std = metrics._reward_std.labels(model)
        self._response_tokens = metrics._response_tokens.labels(model)
        self._repetition = metrics._repetition.labels(model)
        self._max_batch_tokens.set(info.limits.max_batch_tokens)

    def watch_queue(self, size: QueueSize) -> None:
        for lane in Priority:
            entries = self._metrics._queue_entries.labels(self._model, lane.value)
            tokens = self._metrics._queue_tokens.labels(self._model, lane.value)
            entries.set_function(lambda lane=lane: size(lane)[0])
            tokens.set_function(lambda lane=lane: size(lane)[1])

    def watch_drain(self, tokens_per_s: Callable[[], float | None]) -> None:
        """None before the first batch."""
        rate = self._metrics._drain_rate.labels(self._model)
        rate.set_function(lambda: math.nan if (now := tokens_per_s()) is None else now)

    def batch(self, *, rows: int, tokens: int, padded_tokens: int, forward_ns: int) -> None:
        """One forward pass that came through."""
        self._batch_rows.observe(rows)
        self._batch_tokens.observe(padded_tokens)
        self._tokens.inc(tokens)
        self._padding.inc(padded_tokens - tokens)
        self._forward_seconds.observe(forward_ns / 1e9)

    def isolated(self) -> None:
        """An entry that failed alone."""
        self._isolated.inc()

    def nonfinite(self, entries: int) -> None:
        """Entries of one forward pass with a value that is NaN or infinite."""
        self._nonfinite.inc(entries)

    def begun(self, route: str, doubled: int, missing: int) -> None:
        """Responses of one sample whose tokens begin with the begin token twice, or without it. From
        any thread."""
        self._metrics._double_bos.labels(self._model, route).inc(doubled)
        self._metrics._missing_bos.labels(self._model, route).inc(missing)

    def restarted(self) -> None:
        self._restarts.inc()

    def shrunk(self, max_batch_tokens: int) -> None:
        self._max_batch_tokens.set(max_batch_tokens)

    def windows(self, *, hits: int, joined: int, misses: int) -> None:
        """Where the values of a request's windows came from."""
        for outcome, count in (("hit", hits), ("joined", joined), ("miss", misses)):
            if count:
                self._cache[outcome].inc(count)

    def served(self, *, tokenize_ns: int, queue_ns: int) -> None:
        """Times of one request."""
        self._tokenize_seconds.observe(tokenize_ns / 1e9)
        self._wait_seconds.observe(queue_ns / 1e9)

    def scored(self, client: str, scores: Sequence[Score], readings: Sequence[Reading]) -> None:
        """One sample that was answered with rewards; a reading for each score."""
        self._watch.add(client, readings)
        cut = any(score.truncated_tokens for score in scores)
        self._sample(client, "truncated" if cut else "scored")
        for score, reading in zip(scores, readings, strict=True):
            self._rewards.observe(score.reward)
            for name, head in score.heads.items():
                self._heads[name].observe(head.calibrated)
            self._response_tokens.observe(reading.tokens)
            self._repetition.observe(reading.repetition)
            if (count := len(reading.members)) > 1:
                centre = (math.fsum(reading.members) / count,) * count
                self._reward_std.observe(math.dist(reading.members, centre) / math.sqrt(count))

    def unscorable(self, client: str) -> None:
        """One sample that was answered with an error."""
        self._sample(client, "unscorable")

    def _sample(self, client: str, outcome: str) -> None:
        self._metrics._samples.labels(self._model, self._watch.name(client), outcome).inc()


class _Signed:
    """A histogram of what may be negative, with its sum in two halves."""

    def __init__(self, histogram: Histogram, sums: Counter, *labels: str) -> None:
        self._histogram = histogram.labels(*labels)
        self._above = sums.labels(*labels, "positive")
        self._below = sums.labels(*labels, "negative")

    def observe(self, value: float) -> None:
        self._histogram.observe(value)
        (self._above if value > 0 else self._below).inc(abs(value))
