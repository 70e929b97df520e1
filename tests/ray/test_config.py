"""The settings of `tureen serve-ray`, and what Ray Serve is told of them."""

import pytest

from tureen.config import flag_table, made_of
from tureen.ray.config import RayConfig
from tureen.usage import UsageError


def test_settings_come_from_words_as_serve_run_gives_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TUREEN_DOORS", "2")
    config = made_of(RayConfig, {"model": "stub", "min_replicas": "2", "num_gpus": "0.5"})
    assert (config.model, config.min_replicas) == (("stub",), 2)
    assert (config.num_gpus, config.doors) == (0.5, 2)
    assert config.most_replicas == 2  # left out: as many as always


def test_autoscaling_by_the_requests_that_wait():
    given = {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 16}
    assert made_of(RayConfig, given).autoscaling() == {
        "min_replicas": 1,
        "max_replicas": 8,
        "target_ongoing_requests": 16.0,
        "upscale_delay_s": 10.0,
        "downscale_delay_s": 600.0,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_replicas": 2, "max_replicas": 1}, "max_replicas is 1, below min_replicas"),
        ({"min_replica": 2}, "'min_replica' is not a setting; did you mean 'min_replicas'"),
        ({"num_gpus": -1}, "num_gpus is -1"),
        ({"model": "a,b"}, r"2 models are named \(a, b\), and a replica serves one"),
    ],
)
def test_a_mistake_is_one_line(given: dict, message: str):
    with pytest.raises(UsageError, match=message):
        made_of(RayConfig, given)


def test_the_settings_of_each_replica_are_those_of_the_server():
    table = flag_table(RayConfig)
    assert set(flag_table().splitlines()) < set(table.splitlines())
