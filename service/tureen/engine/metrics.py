"""What is counted for the server; the metrics themselves are `metric_table`'s.

Who counts what, so that everything is counted once: a door calls `request` for every request it
answered, and `error` for every request that failed as a whole; the scorer calls `error` for every
sample that failed within an answered request.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tureen.contracts import ModelInfo
from tureen.engine.metric_table import MetricTable
from tureen.engine.model_metrics import ModelMetrics
from tureen.engine.reward_watch import RewardWatch
from tureen.engine.window_metrics import WindowCollector
from tureen.model.drift import RewardReference


class Metrics:
    """One instance a server; its registry is its own, so two servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._table = MetricTable.of(self.registry)
        self._answered: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._watches: dict[str, RewardWatch] = {}
        self._loaded: dict[str, tuple[str, ...]] = {}
        self.registry.register(WindowCollector(self._watches))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def request(self, door: str, route: str, code: str, seconds: float) -> None:
        """One answered request; code is "ok" or that of its error."""
        children = self._answered.get((door, route, code))
        if children is None:
            children = self._answered[door, route, code] = (
                self._table.requests.labels(door, route, code),
                self._table.request_seconds.labels(door, route),
            )
        children[0].inc()
        children[1].observe(seconds)

    def error(self, code: str) -> None:
        """One failed request or failed sample."""
        self._table.errors.labels(code).inc()

    def other_name(self, route: str) -> None:
        """One request that called the model by another name."""
        self._table.other_model_names.labels(route).inc()

    def watch_in_flight(self, responses: Callable[[], float]) -> None:
        """Reads it when it is asked, not when it changes."""
        self._table.in_flight_responses.set_function(responses)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        self._table.ready.set_function(lambda: float(ready()))

    def model(
        self,
        info: ModelInfo,
        reference: RewardReference | None = None,
        into: ModelMetrics | None = None,
    ) -> ModelMetrics:
        """The same metrics for one model, its label bound once; its windows begin empty.

        Args:
            into: is bound to them, instead of one that is made.
        """
        if info.id in self._loaded:
            self._table.model_info.remove(*self._loaded[info.id])
        self._loaded[info.id] = loaded = (
            *(info.id, info.fingerprint, info.soup),
            *(info.backend, info.dtype, info.device),
        )
        self._table.model_info.labels(*loaded).set(1)
        watch = self._watches[info.id] = RewardWatch(info.members, reference)
        if into is None:
            return ModelMetrics(self._table, info, watch)
        into.bind(self._table, info, watch)
        return into
