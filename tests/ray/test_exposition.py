"""Metrics of several processes in one text that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tureen.ray.exposition import joined


def text(requests: float, ready: float) -> bytes:
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["door"], registry=registry).labels("http").inc(requests)
    Gauge("ready", 'Is it? {"maybe"}', registry=registry).set(ready)
    Histogram("seconds", "Time.", buckets=(1.0,), registry=registry).observe(0.5)
    return generate_latest(registry)


def test_each_sample_says_whose_it_is_and_each_metric_is_described_once():
    made = joined([("a", text(1, 0)), ("b", text(2, 1))]).decode()
    assert made.count("# TYPE requests_total counter") == 1
    samples = {
        (sample.name, sample.labels["replica"], sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(made)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert samples == {
        ("requests_total", "a", None): 1.0,
        ("requests_total", "b", None): 2.0,
        ("ready", "a", None): 0.0,
        ("ready", "b", None): 1.0,
        ("seconds_bucket", "a", "1.0"): 1.0,
        ("seconds_bucket", "a", "+Inf"): 1.0,
        ("seconds_bucket", "b", "1.0"): 1.0,
        ("seconds_bucket", "b", "+Inf"): 1.0,
        ("seconds_count", "a", None): 1.0,
        ("seconds_count", "b", None): 1.0,
        ("seconds_sum", "a", None): 0.5,
        ("seconds_sum", "b", None): 0.5,
    }
    labels = {
        sample.labels["door"]
        for family in text_string_to_metric_families(made)
        for sample in family.samples
        if sample.name == "requests_total"
    }
    assert labels == {"http"}


def test_a_metric_that_only_one_has():
    made = joined(
        [("a", b"# HELP x X.\n# TYPE x gauge\n"), ("b", b"# HELP x X.\n# TYPE x gauge\nx 1.0\n")]
    )
    assert made == b'# HELP x X.\n# TYPE x gauge\nx{replica="b"} 1.0\n'
