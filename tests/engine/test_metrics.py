import math

import pytest
from engine_fakes import model_metrics

from tureen.contracts import HeadScore, Priority, Score
from tureen.engine.metric_table import CATALOGUE
from tureen.engine.metrics import Metrics
from tureen.engine.reward_watch import LEAST, Reading

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
    metrics.watch_in_flight(lambda: in_flight[0])
    metrics.watch_ready(lambda: False)
    assert value(metrics, "queue_entries", **MODEL, lane="bulk") == 5
    assert value(metrics, "queue_tokens", **MODEL, lane="interactive") == 30
    assert value(metrics, "in_flight_responses") == 7
    assert value(metrics, "ready") == 0
    in_flight[0] = 8
    assert value(metrics, "in_flight_responses") == 8


def score(reward: float, truncated_tokens: int = 0) -> Score:
    heads = {"preference": HeadScore(value=9.0, calibrated=reward / 2)}
    return Score(reward=reward, heads=heads, tokens=40, truncated_tokens=truncated_tokens)


def reading(reward: float, members: tuple[float, ...] = (0.0,)) -> Reading:
    return Reading(reward, tokens=20, repetition=0.25, members=members, comparable=True)


def test_the_reward_itself_is_watched():
    metrics = Metrics()
    # members 0.4 and 0.8: mean 0.6, standard deviation 0.2
    watched = model_metrics(metrics, members=2)
    watched.scored("anonymous", [score(0.6)], [reading(0.6, (0.4, 0.8))])
    assert value(metrics, "reward_bucket", **MODEL, le="0.5") == 0
    assert value(metrics, "reward_bucket", **MODEL, le="1.0") == 1
    head = {**MODEL, "head": "preference"}
    assert value(metrics, "head_calibrated_bucket", **head, le="0.25") == 0
    assert value(metrics, "head_calibrated_bucket", **head, le="0.5") == 1
    assert value(metrics, "reward_std_sum", **MODEL) == pytest.approx(0.2)
    assert value(metrics, "response_tokens_sum", **MODEL) == 20
    assert value(metrics, "repetition_sum", **MODEL) == 0.25


def test_one_member_has_nobody_to_disagree_with():
    metrics = Metrics()
    model_metrics(metrics).scored("anonymous", [score(0.6)], [reading(0.6)])
    assert value(metrics, "reward_std_count", **MODEL) == 0


def test_the_mean_of_what_may_be_negative_can_be_had():
    """Prometheus keeps no sum of a histogram below zero: two rising sums take its place."""
    metrics = Metrics()
    watched = model_metrics(metrics)
    for reward in (2.0, -0.5, -1.0, 0.0):
        watched.scored("anonymous", [score(reward)], [reading(reward)])
    assert value(metrics, "reward_sum", **MODEL) is None
    assert value(metrics, "reward_count", **MODEL) == 4
    assert value(metrics, "signed_reward_total", **MODEL, sign="positive") == 2.0
    assert value(metrics, "signed_reward_total", **MODEL, sign="negative") == 1.5
    head = {**MODEL, "head": "preference"}
    assert value(metrics, "signed_head_calibrated_total", **head, sign="positive") == 1.0
    assert value(metrics, "signed_head_calibrated_total", **head, sign="negative") == 0.75


def test_samples_are_counted_by_what_became_of_them():
    metrics = Metrics()
    watched = model_metrics(metrics)
    watched.scored("run-7", [score(1.0), score(0.0, 3)], [reading(1.0), reading(0.0)])
    watched.scored("run-7", [score(1.0)], [reading(1.0)])
    watched.unscorable("run-7")
    for outcome in ("scored", "truncated", "unscorable"):
        assert value(metrics, "samples_total", **MODEL, client="run-7", outcome=outcome) == 1


def test_a_window_says_nothing_before_there_is_enough_to_tell():
    metrics = Metrics()
    watched = model_metrics(metrics)
    for number in range(LEAST - 1):
        watched.scored("run-7", [score(number)], [reading(number)])
    labels = {**MODEL, "client": "run-7"}
    assert value(metrics, "window_rewards", **labels) == LEAST - 1
    assert value(metrics, "window_reward_mean", **labels) is None  # absent, not zero
    watched.scored("run-7", [score(LEAST - 1)], [reading(LEAST - 1)])
    assert value(metrics, "window_reward_mean", **labels) == pytest.approx((LEAST - 1) / 2)
    assert value(metrics, "window_drift_psi", **labels) is None  # there is no reference


def test_a_model_that_takes_the_place_of_another_begins_with_empty_windows():
    metrics = Metrics()
    model_metrics(metrics).scored("run-7", [score(1.0)], [reading(1.0)])
    model_metrics(metrics)
    assert value(metrics, "window_rewards", **MODEL, client="*") == 0


def test_only_what_is_loaded_now_is_shown():
    metrics = Metrics()
    model_metrics(metrics)
    model_metrics(metrics)
    assert metrics.render().count(b"\ntureen_model_info{") == 1


def test_the_speed_of_the_device_is_not_a_number_before_the_first_batch():
    metrics = Metrics()
    speed: list[float | None] = [None]
    model_metrics(metrics).watch_drain(lambda: speed[0])
    before = value(metrics, "drain_tokens_per_second", **MODEL)
    assert before is not None
    assert math.isnan(before)
    speed[0] = 1234.5
    assert value(metrics, "drain_tokens_per_second", **MODEL) == 1234.5


def test_every_metric_that_is_exposed_is_described():
    metrics = Metrics()
    described = {one.name.removesuffix("_total") for one in CATALOGUE}
    assert {family.name for family in metrics.registry.collect()} == described
    assert all(one.text.endswith(".") and one.unit for one in CATALOGUE)


def test_what_is_loaded_can_be_read_off():
    metrics = Metrics()
    model_metrics(metrics)
    assert b'tureen_model_info{backend="fake",device="cpu",dtype="float32"' in metrics.render()
