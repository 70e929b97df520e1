from engine_fakes import model_metrics

from tureen.contracts import HeadScore, Priority, Score, Uncertainty
from tureen.engine.metrics import Metrics

MODEL = {"model": "fake"}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"tureen_{name}", labels)


def test_two_servers_in_one_process_do_not_mix():
    first, second = Metrics(), Metrics()
    first.error("overloaded")
    assert value(first, "errors_total", code="overloaded") == 1
    assert value(second, "errors_total", code="overloaded") is None


def test_a_request_is_counted_with_its_time():
    metrics = Metrics()
    metrics.request("http", "/v1/score", "ok", 0.004)
    labels = {"door": "http", "route": "/v1/score"}
    assert value(metrics, "requests_total", **labels, code="ok") == 1
    assert value(metrics, "request_seconds_sum", **labels) == 0.004
    assert value(metrics, "request_seconds_bucket", **labels, le="0.0025") == 0
    assert value(metrics, "request_seconds_bucket", **labels, le="0.005") == 1


def test_a_batch_tells_its_shape_and_its_padding():
    metrics = Metrics()
    model_metrics(metrics).batch(rows=3, tokens=70, padded_tokens=90, forward_ns=2_000_000)
    assert value(metrics, "batch_rows_sum", **MODEL) == 3
    assert value(metrics, "batch_tokens_sum", **MODEL) == 90
    assert value(metrics, "tokens_total", **MODEL) == 70
    assert value(metrics, "padding_tokens_total", **MODEL) == 20
    assert value(metrics, "forward_seconds_sum", **MODEL) == 0.002


def test_gauges_are_read_when_they_are_asked_for():
    metrics = Metrics()
    waiting = {Priority.INTERACTIVE: (2, 30), Priority.BULK: (5, 80)}
    model_metrics(metrics).watch_queue(lambda lane: waiting[lane])
    in_flight = [7]
    metrics.watch(lambda: in_flight[0], lambda: False)
    assert value(metrics, "queue_entries", **MODEL, lane="bulk") == 5
    assert value(metrics, "queue_tokens", **MODEL, lane="interactive") == 30
    assert value(metrics, "in_flight_responses") == 7
    assert value(metrics, "ready") == 0
    in_flight[0] = 8
    assert value(metrics, "in_flight_responses") == 8


def test_the_reward_itself_is_watched():
    metrics = Metrics()
    score = Score(
        reward=0.6,
        heads={"preference": HeadScore(value=9.0, calibrated=-0.3)},
        uncertainty=Uncertainty(std=0.15, low=0.4, high=0.8, members=2),
        tokens=4,
    )
    model_metrics(metrics).score(score)
    assert value(metrics, "reward_bucket", **MODEL, le="0.5") == 0
    assert value(metrics, "reward_bucket", **MODEL, le="1.0") == 1
    head = {**MODEL, "head": "preference"}
    assert value(metrics, "head_calibrated_bucket", **head, le="-0.5") == 0
    assert value(metrics, "head_calibrated_bucket", **head, le="-0.25") == 1
    assert value(metrics, "reward_std_bucket", **MODEL, le="0.2") == 1


def test_what_is_loaded_can_be_read_off():
    metrics = Metrics()
    model_metrics(metrics)
    assert b'tureen_model_info{backend="fake",device="cpu",dtype="float32"' in metrics.render()
