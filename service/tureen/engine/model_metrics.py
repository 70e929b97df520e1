"""What is counted for one model; the metrics themselves are `metric_table`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Histogram

from tureen.contracts import ModelInfo, Priority, Score
from tureen.engine.metric_table import MetricTable
from tureen.engine.reward_watch import Reading, RewardWatch

QueueSize = Callable[[Priority], tuple[int, int]]
"""Lane -> entries and tokens that wait."""


class ModelMetrics:
    """What the engine counts for one model; its labels are looked up once."""

    def __init__(self, table: MetricTable, info: ModelInfo, watch: RewardWatch) -> None:
        self.bind(table, info, watch)

    def bind(self, table: MetricTable, info: ModelInfo, watch: RewardWatch) -> None:
        """From now on counts there, and watches rewards so."""
        model = info.id
        self._table, self._model, self._watch = table, model, watch
        self._tokenize_seconds = table.tokenize_seconds.labels(model)
        self._wait_seconds = table.queue_seconds.labels(model)
        self._forward_seconds = table.forward_seconds.labels(model)
        self._batch_rows = table.batch_rows.labels(model)
        self._batch_tokens = table.batch_tokens.labels(model)
        self._tokens = table.tokens.labels(model)
        self._padding = table.padding_tokens.labels(model)
        self._max_batch_tokens = table.max_batch_tokens.labels(model)
        self._cache = {
            outcome: table.cache.labels(model, outcome) for outcome in ("hit", "joined", "miss")
        }
        self._isolated = table.isolated_entries.labels(model)
        self._restarts = table.worker_restarts.labels(model)
        self._nonfinite = table.nonfinite_entries.labels(model)
        self._rewards = _Signed(table.reward, table.signed_reward, model)
        self._heads = {
            head.name: _Signed(
                table.head_calibrated, table.signed_head_calibrated, model, head.name
            )
            for head in info.heads
        }
        self._reward_std = table.reward_std.labels(model)
        self._response_tokens = table.response_tokens.labels(model)
        self._repetition = table.repetition.labels(model)
        self._max_batch_tokens.set(info.limits.max_batch_tokens)

    def watch_queue(self, size: QueueSize) -> None:
        for lane in Priority:
            entries = self._table.queue_entries.labels(self._model, lane.value)
            tokens = self._table.queue_tokens.labels(self._model, lane.value)
            entries.set_function(lambda lane=lane: size(lane)[0])
            tokens.set_function(lambda lane=lane: size(lane)[1])

    def watch_drain(self, tokens_per_s: Callable[[], float | None]) -> None:
        """None before the first batch."""
        rate = self._table.drain_tokens_per_second.labels(self._model)
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
        self._table.double_bos.labels(self._model, route).inc(doubled)
        self._table.missing_bos.labels(self._model, route).inc(missing)

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
        self._table.samples.labels(self._model, self._watch.name(client), outcome).inc()


class _Signed:
    """A histogram of what may be negative, with its sum in two halves."""

    def __init__(self, histogram: Histogram, sums: Counter, *labels: str) -> None:
        self._histogram = histogram.labels(*labels)
        self._above = sums.labels(*labels, "positive")
        self._below = sums.labels(*labels, "negative")

    def observe(self, value: float) -> None:
        self._histogram.observe(value)
        (self._above if value > 0 else self._below).inc(abs(value))
