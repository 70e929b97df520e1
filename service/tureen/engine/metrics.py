"""Every metric of the service: name, unit, buckets, one sentence. Nothing is counted anywhere else.

Who counts what, so that everything is counted once: a door calls `request` for every request it
answered, and `error` for every request that failed as a whole; the scorer calls `error` for every
sample that failed within an answered request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tureen.contracts import ModelInfo, Priority, Score

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0)
_REWARDS = (*(-distance for distance in reversed(_DISTANCES)), 0.0, *_DISTANCES)
_STDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)

QueueSize = Callable[[Priority], tuple[int, int]]
"""Lane -> entries and tokens that wait."""


class Metrics:
    """One instance a server; its registry is its own, so two servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tureen_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"tureen_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(
                f"tureen_{name}", text, labels, buckets=tuple(buckets), registry=self.registry
            )

        # doors
        self._requests = counter(
            "requests", "Requests answered, by outcome.", "door", "route", "code"
        )
        self._request_seconds = histogram(
            "request_seconds",
            "From the request read to its answer ready.",
            _SECONDS,
            "door",
            "route",
        )
        self._errors = counter(
            "errors", "Requests and samples that failed, each counted once.", "code"
        )
        # engine
        self._in_flight = gauge("in_flight_responses", "Responses admitted and not yet answered.")
        self._ready = gauge("ready", "1 when the server is ready for work.")
        self._tokenize_seconds = histogram(
            "tokenize_seconds", "Text to tokens, of one request.", _SECONDS, "model"
        )
        self._wait_seconds = histogram(
            "queue_seconds", "Longest wait for the device, of one request.", _SECONDS, "model"
        )
        self._forward_seconds = histogram(
            "forward_seconds", "One batch on the device.", _SECONDS, "model"
        )
        self._batch_rows = histogram("batch_rows", "Windows in one batch.", _ROWS, "model")
        self._batch_tokens = histogram(
            "batch_tokens", "Tokens in one batch, padding included.", _TOKENS, "model"
        )
        self._tokens = counter("tokens", "Tokens the device read, without padding.", "model")
        self._padding = counter("padding_tokens", "Tokens of padding the device computed.", "model")
        self._queue_entries = gauge("queue_entries", "Windows that wait.", "model", "lane")
        self._queue_tokens = gauge(
            "queue_tokens", "Tokens of the windows that wait.", "model", "lane"
        )
        self._max_batch_tokens = gauge(
            "max_batch_tokens",
            "Budget of a batch; falls when the device runs out of memory.",
            "model",
        )
        self._cache = counter(
            "cache",
            "Windows by where their values came from: hit (remembered), joined (in flight), miss.",
            "model",
            "outcome",
        )
        self._isolated = counter("isolated_entries", "Windows that failed alone.", "model")
        self._restarts = counter("worker_restarts", "Device threads that died.", "model")
        # the reward itself; histograms that reach below zero have no _sum in Prometheus
        self._rewards = histogram("reward", "Rewards given.", _REWARDS, "model")
        self._heads = histogram(
            "head_calibrated", "Calibrated values of a head.", _REWARDS, "model", "head"
        )
        self._reward_std = histogram(
            "reward_std", "Spread of the members' rewards, where computed.", _STDS, "model"
        )
        self._model_info = gauge(
            "model_info",
            "1; what is loaded.",
            "model",
            "fingerprint",
            "soup",
            "backend",
            "dtype",
            "device",
        )

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def request(self, door: str, route: str, code: str, seconds: float) -> None:
        """One answered request; code is "ok" or that of its error."""
        self._requests.labels(door, route, code).inc()
        self._request_seconds.labels(door, route).observe(seconds)

    def error(self, code: str) -> None:
        """One failed request or failed sample."""
        self._errors.labels(code).inc()

    def watch(self, in_flight: Callable[[], float], ready: Callable[[], bool]) -> None:
        """Reads these when it is asked, not when they change."""
        self._in_flight.set_function(in_flight)
        self._ready.set_function(lambda: float(ready()))

    def model(self, info: ModelInfo) -> ModelMetrics:
        """The same metrics for one model, its label bound once."""
        self._model_info.labels(
            info.id, info.fingerprint, info.soup, info.backend, info.dtype, info.device
        ).set(1)
        return ModelMetrics(self, info)


class ModelMetrics:
    """What the engine counts for one model; its labels are looked up once."""

    def __init__(self, metrics: Metrics, info: ModelInfo) -> None:
        model = info.id
        self._metrics, self._model = metrics, model
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
        self._rewards = metrics._rewards.labels(model)
        self._heads = {head.name: metrics._heads.labels(model, head.name) for head in info.heads}
        self._reward_std = metrics._reward_std.labels(model)
        self._max_batch_tokens.set(info.limits.max_batch_tokens)

    def watch_queue(self, size: QueueSize) -> None:
        for lane in Priority:
            entries = self._metrics._queue_entries.labels(self._model, lane.value)
            tokens = self._metrics._queue_tokens.labels(self._model, lane.value)
            entries.set_function(lambda lane=lane: size(lane)[0])
            tokens.set_function(lambda lane=lane: size(lane)[1])

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

    def score(self, score: Score) -> None:
        """One reward that was given."""
        self._rewards.observe(score.reward)
        for name, head in score.heads.items():
            self._heads[name].observe(head.calibrated)
        if score.uncertainty is not None:
            self._reward_std.observe(score.uncertainty.std)
