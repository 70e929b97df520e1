"""Every metric of the service: name, unit, buckets, one sentence. Nothing is counted anywhere else.

Who counts what, so that everything is counted once: a door calls `request` for every request it
answered, and `error` for every request that failed as a whole; the scorer calls `error` for every
sample that failed within an answered request.

What can be negative has no `_sum` in Prometheus, whose sums only rise. Beside such a histogram
stands a counter with the label `sign`: the sum of what was above zero, and that of what was below
it, turned positive. rate(positive) − rate(negative), over rate(_count), is the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tureen.contracts import ModelInfo
from tureen.engine.model_metrics import ModelMetrics
from tureen.engine.reward_watch import RewardWatch
from tureen.engine.window_metrics import WINDOW, WINDOW_LABELS, WindowCollector
from tureen.model.drift import RewardReference

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_RESPONSE_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0)
_REWARDS = (*(-distance for distance in reversed(_DISTANCES)), 0.0, *_DISTANCES)
_STDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A metric as the documents list it."""

    name: str
    kind: str
    unit: str
    text: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


class Metrics:
    """One instance a server; its registry is its own, so two servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.catalogue: list[Described] = []

        def describe(
            kind: str,
            name: str,
            unit: str,
            text: str,
            labels: tuple[str, ...],
            buckets: tuple[float, ...] = (),
        ) -> str:
            suffix = "_total" if kind == "counter" else ""
            self.catalogue.append(
                Described(
                    name=f"tureen_{name}{suffix}",
                    kind=kind,
                    unit=unit,
                    text=text,
                    labels=labels,
                    buckets=buckets,
                )
            )
            return f"tureen_{name}"

        def counter(name: str, unit: str, text: str, *labels: str) -> Counter:
            full = describe("counter", name, unit, text, labels)
            return Counter(full, text, labels, registry=self.registry)

        def gauge(name: str, unit: str, text: str, *labels: str) -> Gauge:
            full = describe("gauge", name, unit, text, labels)
            return Gauge(full, text, labels, registry=self.registry)

        def histogram(
            name: str, unit: str, text: str, buckets: Iterable[float], *labels: str
        ) -> Histogram:
            bounds = tuple(buckets)
            full = describe("histogram", name, unit, text, labels, bounds)
            return Histogram(full, text, labels, buckets=bounds, registry=self.registry)

        # doors
        self._requests = counter(
            "requests", "requests", "Requests answered, by outcome.", "door", "route", "code"
        )
        self._request_seconds = histogram(
            "request_seconds",
            "seconds",
            "From the request read to its answer ready.",
            _SECONDS,
            "door",
            "route",
        )
        self._errors = counter(
            "errors",
            "requests and samples",
            "Requests and samples that failed, each counted once.",
            "code",
        )
        # engine
        self._in_flight = gauge(
            "in_flight_responses", "responses", "Responses admitted and not yet answered."
        )
        self._ready = gauge("ready", "0 or 1", "1 when the server is ready for work.")
        self._tokenize_seconds = histogram(
            "tokenize_seconds", "seconds", "Text to tokens, of one request.", _SECONDS, "model"
        )
        self._wait_seconds = histogram(
            "queue_seconds",
            "seconds",
            "Longest wait for the device, of one request.",
            _SECONDS,
            "model",
        )
        self._forward_seconds = histogram(
            "forward_seconds", "seconds", "One batch on the device.", _SECONDS, "model"
        )
        self._batch_rows = histogram(
            "batch_rows", "windows", "Windows in one batch.", _ROWS, "model"
        )
        self._batch_tokens = histogram(
            "batch_tokens", "tokens", "Tokens in one batch, padding included.", _TOKENS, "model"
        )
        self._tokens = counter(
            "tokens", "tokens", "Tokens the device read, without padding.", "model"
        )
        self._padding = counter(
            "padding_tokens", "tokens", "Tokens of padding the device computed.", "model"
        )
        self._queue_entries = gauge(
            "queue_entries", "windows", "Windows that wait.", "model", "lane"
        )
        self._queue_tokens = gauge(
            "queue_tokens", "tokens", "Tokens of the windows that wait.", "model", "lane"
        )
        self._drain_rate = gauge(
            "drain_tokens_per_second",
            "tokens per second",
            "Speed of the device over its latest batches; waits told to callers follow from it.",
            "model",
        )
        self._max_batch_tokens = gauge(
            "max_batch_tokens",
            "tokens",
            "Budget of a batch; falls when the device runs out of memory.",
            "model",
        )
        self._cache = counter(
            "cache",
            "windows",
            "Windows by where their values came from: hit (remembered), joined (in flight), miss.",
            "model",
            "outcome",
        )
        self._isolated = counter(
            "isolated_entries", "windows", "Windows that failed alone.", "model"
        )
        self._nonfinite = counter(
            "nonfinite_entries",
            "windows",
            "Windows with a NaN or an infinity among their values, in each forward pass anew.",
            "model",
        )
        self._restarts = counter("worker_restarts", "threads", "Device threads that died.", "model")
        # the reward itself
        self._rewards = histogram("reward", "reward", "Rewards given.", _REWARDS, "model")
        self._signed_reward = counter(
            "signed_reward",
            "reward",
            "Sum of the rewards above zero, or below it.",
            "model",
            "sign",
        )
        self._heads = histogram(
            "head_calibrated",
            "reward / weight",
            "Calibrated values of a head.",
            _REWARDS,
            "model",
            "head",
        )
        self._signed_heads = counter(
            "signed_head_calibrated",
            "reward / weight",
            "Sum of a head's calibrated values above zero, or below it.",
            "model",
            "head",
            "sign",
        )
        self._reward_std = histogram(
            "reward_std",
            "reward",
            "Disagreement: standard deviation of the members' rewards.",
            _STDS,
            "model",
        )
        self._response_tokens = histogram(
            "response_tokens", "tokens", "Length of a response.", _RESPONSE_TOKENS, "model"
        )
        self._repetition = histogram(
            "repetition",
            "share",
            "Share of 4-grams of a response that repeat another of its own.",
            _SHARES,
            "model",
        )
        self._samples = counter(
            "samples",
            "samples",
            "Samples by outcome: scored, truncated (scored without some of the prompt or the "
            "context, as asked for), unscorable.",
            "model",
            "client",
            "outcome",
        )
        self._double_bos = counter(
            "double_bos",
            "responses",
            "Responses whose tokens begin with the begin token twice: a template rendered by the "
            "caller, and another time here.",
            "model",
            "route",
        )
        self._missing_bos = counter(
            "missing_bos",
            "responses",
            "Responses that came with special tokens of their own, but without the begin token that "
            "the model's tokenizer puts before a text; they were scored as they came.",
            "model",
            "route",
        )
        self._other_names = counter(
            "other_model_names",
            "requests",
            "Requests of other systems that named a model which is not served, and were answered by "
            "the only one.",
            "route",
        )
        for name, (unit, text) in WINDOW.items():
            describe("gauge", f"window_{name}", unit, text, WINDOW_LABELS)
        self._answered: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._watches: dict[str, RewardWatch] = {}
        self._loaded: dict[str, tuple[str, ...]] = {}
        self.registry.register(WindowCollector(self._watches))
        self._model_info = gauge(
            "model_info",
            "1",
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
        children = self._answered.get((door, route, code))
        if children is None:
            children = self._answered[door, route, code] = (
                self._requests.labels(door, route, code),
                self._request_seconds.labels(door, route),
            )
        children[0].inc()
        children[1].observe(seconds)

    def error(self, code: str) -> None:
        """One failed request or failed sample."""
        self._errors.labels(code).inc()

    def other_name(self, route: str) -> None:
        """One request that called the model by another name."""
        self._other_names.labels(route).inc()

    def watch_in_flight(self, responses: Callable[[], float]) -> None:
        """Reads it when it is asked, not when it changes."""
        self._in_flight.set_function(responses)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        self._ready.set_function(lambda: float(ready()))

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
            self._model_info.remove(*self._loaded[info.id])
        self._loaded[info.id] = loaded = (
            *(info.id, info.fingerprint, info.soup),
            *(info.backend, info.dtype, info.device),
        )
        self._model_info.labels(*loaded).set(1)
        watch = self._watches[info.id] = RewardWatch(info.members, reference)
        if into is None:
            return ModelMetrics(self, info, watch)
        into.bind(self, info, watch)
        return into
