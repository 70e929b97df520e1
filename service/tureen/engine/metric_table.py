"""Every metric of the service: name, unit, buckets, one sentence. Nothing is counted anywhere else.

What can be negative has no `_sum` in Prometheus, whose sums only rise. Beside such a histogram
stands a counter with the label `sign`: the sum of what was above zero, and that of what was below
it, turned positive. rate(positive) − rate(negative), over rate(_count), is the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, get_args, get_type_hints

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tureen.engine.window_metrics import WINDOW, WINDOW_LABELS

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


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of a metric, beside its name and kind."""

    unit: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Described(Row):
    """A metric as the documents list it."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTable:
    """The metrics of one registry: a field's name is that of the metric, without tureen_, and its type
    the kind. Those of `WINDOW` are not here: they are collected, not counted."""

    # doors
    requests: Annotated[
        Counter, Row("requests", "Requests answered, by outcome.", ("door", "route", "code"))
    ]
    request_seconds: Annotated[
        Histogram,
        Row("seconds", "From the request read to its answer ready.", ("door", "route"), _SECONDS),
    ]
    errors: Annotated[
        Counter,
        Row(
            "requests and samples",
            "Requests and samples that failed, each counted once.",
            ("code",),
        ),
    ]
    # engine
    in_flight_responses: Annotated[
        Gauge, Row("responses", "Responses admitted and not yet answered.")
    ]
    ready: Annotated[Gauge, Row("0 or 1", "1 when the server is ready for work.")]
    tokenize_seconds: Annotated[
        Histogram, Row("seconds", "Text to tokens, of one request.", ("model",), _SECONDS)
    ]
    queue_seconds: Annotated[
        Histogram,
        Row("seconds", "Longest wait for the device, of one request.", ("model",), _SECONDS),
    ]
    forward_seconds: Annotated[
        Histogram, Row("seconds", "One batch on the device.", ("model",), _SECONDS)
    ]
    batch_rows: Annotated[Histogram, Row("windows", "Windows in one batch.", ("model",), _ROWS)]
    batch_tokens: Annotated[
        Histogram, Row("tokens", "Tokens in one batch, padding included.", ("model",), _TOKENS)
    ]
    tokens: Annotated[
        Counter, Row("tokens", "Tokens the device read, without padding.", ("model",))
    ]
    padding_tokens: Annotated[
        Counter, Row("tokens", "Tokens of padding the device computed.", ("model",))
    ]
    queue_entries: Annotated[Gauge, Row("windows", "Windows that wait.", ("model", "lane"))]
    queue_tokens: Annotated[
        Gauge, Row("tokens", "Tokens of the windows that wait.", ("model", "lane"))
    ]
    drain_tokens_per_second: Annotated[
        Gauge,
        Row(
            "tokens per second",
            "Speed of the device over its latest batches; waits told to callers follow from it.",
            ("model",),
        ),
    ]
    max_batch_tokens: Annotated[
        Gauge,
        Row("tokens", "Budget of a batch; falls when the device runs out of memory.", ("model",)),
    ]
    cache: Annotated[
        Counter,
        Row(
            "windows",
            "Windows by where their values came from: hit (remembered), joined (in flight), miss.",
            ("model", "outcome"),
        ),
    ]
    isolated_entries: Annotated[Counter, Row("windows", "Windows that failed alone.", ("model",))]
    nonfinite_entries: Annotated[
        Counter,
        Row(
            "windows",
            "Windows with a NaN or an infinity among their values, in each forward pass anew.",
            ("model",),
        ),
    ]
    worker_restarts: Annotated[Counter, Row("threads", "Device threads that died.", ("model",))]
    # the reward itself
    reward: Annotated[Histogram, Row("reward", "Rewards given.", ("model",), _REWARDS)]
    signed_reward: Annotated[
        Counter, Row("reward", "Sum of the rewards above zero, or below it.", ("model", "sign"))
    ]
    head_calibrated: Annotated[
        Histogram,
        Row("reward / weight", "Calibrated values of a head.", ("model", "head"), _REWARDS),
    ]
    signed_head_calibrated: Annotated[
        Counter,
        Row(
            "reward / weight",
            "Sum of a head's calibrated values above zero, or below it.",
            ("model", "head", "sign"),
        ),
    ]
    reward_std: Annotated[
        Histogram,
        Row(
            "reward", "Disagreement: standard deviation of the members' rewards.", ("model",), _STDS
        ),
    ]
    response_tokens: Annotated[
        Histogram, Row("tokens", "Length of a response.", ("model",), _RESPONSE_TOKENS)
    ]
    repetition: Annotated[
        Histogram,
        Row(
            "share",
            "Share of 4-grams of a response that repeat another of its own.",
            ("model",),
            _SHARES,
        ),
    ]
    samples: Annotated[
        Counter,
        Row(
            "samples",
            "Samples by outcome: scored, truncated (scored without some of the prompt or the "
            "context, as asked for), unscorable.",
            ("model", "client", "outcome"),
        ),
    ]
    double_bos: Annotated[
        Counter,
        Row(
            "responses",
            "Responses whose tokens begin with the begin token twice: a template rendered by the "
            "caller, and another time here.",
            ("model", "route"),
        ),
    ]
    missing_bos: Annotated[
        Counter,
        Row(
            "responses",
            "Responses that came with special tokens of their own, but without the begin token that "
            "the model's tokenizer puts before a text; they were scored as they came.",
            ("model", "route"),
        ),
    ]
    other_model_names: Annotated[
        Counter,
        Row(
            "requests",
            "Requests of other systems that named a model which is not served, and were answered by "
            "the only one.",
            ("route",),
        ),
    ]
    model_info: Annotated[
        Gauge,
        Row(
            "1",
            "1; what is loaded.",
            ("model", "fingerprint", "soup", "backend", "dtype", "device"),
        ),
    ]

    @classmethod
    def of(cls, registry: CollectorRegistry) -> MetricTable:
        """Makes them there."""
        made = {}
        for name, kind, row in _rows():
            buckets = {"buckets": row.buckets} if row.buckets else {}
            made[name] = kind(f"tureen_{name}", row.text, row.labels, registry=registry, **buckets)
        return cls(**made)


def _rows() -> Iterator[tuple[str, type, Row]]:
    for name, hint in get_type_hints(MetricTable, include_extras=True).items():
        yield name, *get_args(hint)


def _described(name: str, kind: str, row: Row) -> Described:
    suffix = "_total" if kind == "counter" else ""
    return Described(name=f"tureen_{name}{suffix}", kind=kind, **asdict(row))


def _catalogue() -> Iterator[Described]:
    counted = [_described(name, kind.__name__.lower(), row) for name, kind, row in _rows()]
    yield from counted[:-1]
    for name, (unit, text) in WINDOW.items():
        yield _described(f"window_{name}", "gauge", Row(unit, text, WINDOW_LABELS))
    yield counted[-1]


CATALOGUE = tuple(_catalogue())
