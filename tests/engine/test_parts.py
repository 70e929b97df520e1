"""Limits, permits and cache."""

import numpy as np
import pytest

from tureen.engine.backend import BatchLimits
from tureen.engine.cache import ValueCache
from tureen.engine.limits import EngineLimits
from tureen.engine.permits import (
    LEAST_WAIT_S,
    MOST_WAIT_S,
    UNMEASURED_WAIT_S,
    Permits,
    wait_hint_s,
)
from tureen.errors import Overloaded


def test_batch_limits_suit_the_backend_unless_they_are_given():
    suited = BatchLimits(max_batch_tokens=100, max_batch_requests=10, overhead_tokens=5)
    assert EngineLimits().batch_limits(suited) == suited
    given = EngineLimits(max_batch_tokens=7, max_batch_requests=3).batch_limits(suited)
    assert given == BatchLimits(max_batch_tokens=7, max_batch_requests=3, overhead_tokens=5)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens"),
        ({"max_concurrent_requests": -1}, "max_concurrent_requests"),
        ({"tokenization_workers": 0}, "tokenization_workers"),
        ({"cache_bytes": -1}, "cache_bytes"),
        (
            {"max_client_batch_size": 9, "max_concurrent_requests": 8},
            r"max_client_batch_size is 9, above\s+max_concurrent_requests \(8\)",
        ),
    ],
)
def test_limits_that_cannot_be(limits, named):
    with pytest.raises(ValueError, match=named):
        EngineLimits(**limits)


def test_permits_are_given_back_even_after_a_failure():
    permits = Permits(3)
    with pytest.raises(ZeroDivisionError), permits.hold(3, lambda: 1.0):
        _ = 1 / (permits.taken - 3)
    assert permits.taken == 0


def test_a_refusal_says_how_many_and_when_to_come_back():
    permits = Permits(3)
    with permits.hold(2, lambda: 1.0):
        with pytest.raises(Overloaded) as caught, permits.hold(2, lambda: 0.25):
            raise AssertionError("admitted")
        with permits.hold(1, lambda: 1.0):
            assert permits.taken == 3
    error = caught.value
    assert (error.got, error.limit, error.retry_after_s) == (4, 3, 0.25)
    assert permits.taken == 0


@pytest.mark.parametrize(
    ("tokens", "tokens_per_s", "expected"),
    [
        (500, 1000.0, 0.5),
        (500, None, UNMEASURED_WAIT_S),
        (0, 1000.0, LEAST_WAIT_S),
        (10**9, 1.0, MOST_WAIT_S),
    ],
)
def test_the_wait_hint_is_what_the_work_will_take_within_bounds(tokens, tokens_per_s, expected):
    assert wait_hint_s(tokens, tokens_per_s) == expected


def values(number: float, size: int = 100) -> np.ndarray:
    return np.full(size, number, np.float32)


def test_the_cache_gives_back_what_it_was_given():
    cache = ValueCache(10_000)
    stored = values(1)
    cache.put(b"a", stored)
    assert cache.get(b"a") is stored
    assert cache.get(b"b") is None


def test_the_least_recently_used_goes_first_when_the_bytes_are_used_up():
    cache = ValueCache(3 * 700)  # 400 bytes of values and 300 beside them
    for key in (b"a", b"b", b"c"):
        cache.put(key, values(0))
    assert cache.bytes == 2100
    cache.get(b"a")
    cache.put(b"d", values(0))
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]
    assert (len(cache), cache.bytes) == (3, 2100)


def test_what_does_not_fit_is_not_remembered():
    cache = ValueCache(500)
    cache.put(b"a", values(0))
    off = ValueCache(0)
    off.put(b"a", values(0, size=1))
    assert len(cache) == len(off) == 0
