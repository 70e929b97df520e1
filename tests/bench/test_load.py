"""Rates, percentiles and ratios by hand; an open loop that waits for nobody."""

import asyncio
import time

import pytest
from bench.load import (
    arrivals,
    closed_loop,
    open_loop,
    paired_ratio,
    percentile,
    percentiles_ms,
    steady_rate,
)
from bench.workload import Request

REQUESTS = [Request(str(number), b"") for number in range(20)]


def test_a_steady_rate_counts_neither_the_beginning_nor_the_end():
    """Two clients: counted from answer 2 (10 s) to the one with 2 still to come (16 s): 3 in 6 s."""
    assert steady_rate([9, 10, 12, 14, 16, 16.5, 30], concurrency=2) == pytest.approx(3 / 6)


def test_answers_may_come_in_any_order():
    assert steady_rate([30, 12, 9, 16.5, 16, 10, 14], concurrency=2) == pytest.approx(3 / 6)


def test_too_few_answers_have_no_steady_rate():
    with pytest.raises(ValueError, match="more than 4"):
        steady_rate([1, 2, 3, 4], concurrency=2)


def test_percentiles_are_values_that_occurred():
    values = list(range(1, 101))
    assert percentiles_ms(values) == {"p50": 50, "p95": 95, "p99": 99}
    assert percentile([7.0], 99) == 7
    assert percentile([3, 1, 2], 50) == 2


def test_a_ratio_is_the_median_of_the_rounds():
    """2/1, 4/1 and 6/2 are 2, 4 and 3; a control that is faster gives a ratio below 1."""
    assert paired_ratio([2, 4, 6], [1, 1, 2]) == 3
    assert paired_ratio([1, 1, 1], [4, 4, 4]) == 0.25
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1, 2], [1])


def test_arrivals_are_a_poisson_process():
    """Of 10,000 gaps of mean 1/50 s, the sum's standard deviation is 1 %: 5 % is five of them."""
    times = arrivals(10_000, per_s=50, seed=3)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(10_000 / 50, rel=0.05)
    gaps = [b - a for a, b in zip([0, *times], times, strict=False)]
    assert sum(gap > 1 / 50 for gap in gaps) / 10_000 == pytest.approx(0.368, abs=0.02)  # 1/e


class Server:
    """Answers nobody until `opens_at` requests have come."""

    def __init__(self, opens_at: int) -> None:
        self.opens_at, self.came, self.most = opens_at, 0, 0
        self.open = asyncio.Event()
        self.inside = 0

    async def __call__(self, request: Request) -> bytes:
        self.came += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.came == self.opens_at:
            self.open.set()
        await self.open.wait()
        self.inside -= 1
        return b""


def test_an_open_loop_sends_although_nothing_is_answered():
    """The server opens when the last request is there: a closed loop would wait for ever."""

    async def run() -> int:
        server = Server(opens_at=len(REQUESTS))
        async with asyncio.timeout(20):
            outcome = await open_loop(server, REQUESTS, per_s=1e5)
        return len(outcome.done_s)

    assert asyncio.run(run()) == len(REQUESTS)


def test_a_closed_loop_keeps_its_clients_busy_and_no_more():
    async def run() -> tuple[int, int]:
        server = Server(opens_at=4)
        async with asyncio.timeout(20):
            outcome = await closed_loop(server, REQUESTS, concurrency=4)
        return server.most, len(outcome.done_s)

    assert asyncio.run(run()) == (4, len(REQUESTS))


def test_a_stall_is_charged_to_every_request_it_held_up():
    """Twenty requests are due within some microseconds; the first holds up the others for 60 ms."""

    async def stalling(request: Request) -> bytes:
        if request.id == "0":
            time.sleep(0.06)
        return b""

    outcome = asyncio.run(open_loop(stalling, REQUESTS, per_s=1e6))
    assert min(outcome.latencies_ms) > 55
    assert max(outcome.late_ms) > 55
