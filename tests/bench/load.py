"""Two ways to load a server, and what is made of their times.

Closed loop: `concurrency` clients, each sends when its answer has come. Open loop: requests are due at
the times of a Poisson process, whatever the server does, and a latency runs from the time a request was
due, so a server that stalls is charged for every request it held up (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import uvloop
from bench.callers import Call
from bench.workload import Request


@dataclass
class Outcome:
    """started_s, done_s: on the clock of `time.perf_counter`; when the load began, when answers came.

    latencies_ms: in the order of the answers. late_ms: of an open loop, how long after a request was
    due the generator sent it.
    """

    started_s: float = field(default_factory=time.perf_counter)
    latencies_ms: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)

    def add(self, since_s: float) -> None:
        now_s = time.perf_counter()
        self.latencies_ms.append((now_s - since_s) * 1e3)
        self.done_s.append(now_s)


async def closed_loop(call: Call, requests: Iterable[Request], concurrency: int) -> Outcome:
    waiting, outcome = iter(requests), Outcome()

    async def client() -> None:
        for request in waiting:
            sent_s = time.perf_counter()
            await call(request)
            outcome.add(sent_s)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(client())
    return outcome


async def open_loop(
    call: Call, requests: Sequence[Request], per_s: float, seed: int = 0
) -> Outcome:
    """Sends at `per_s` requests a second on average, each on time even if none was answered yet."""
    outcome = Outcome()

    async def send(request: Request, due_s: float) -> None:
        outcome.late_ms.append((time.perf_counter() - due_s) * 1e3)
        await call(request)
        outcome.add(due_s)

    start_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for request, offset_s in zip(requests, arrivals(len(requests), per_s, seed), strict=True):
            due_s = start_s + offset_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            tasks.create_task(send(request, due_s))
    return outcome


def run_closed(
    opened: AbstractAsyncContextManager[Call], requests: Iterable[Request], concurrency: int
) -> Outcome:
    """A closed loop through a door that is opened for it, in an event loop of its own."""

    async def run() -> Outcome:
        async with opened as call:
            return await closed_loop(call, requests, concurrency)

    return uvloop.run(run())


def run_open(
    opened: AbstractAsyncContextManager[Call], requests: Sequence[Request], per_s: float, seed: int
) -> Outcome:
    """An open loop, in the same way."""

    async def run() -> Outcome:
        async with opened as call:
            return await open_loop(call, requests, per_s, seed)

    return uvloop.run(run())


def arrivals(count: int, per_s: float, seed: int) -> list[float]:
    """Seconds from the start: a Poisson process, so exponential gaps of mean 1 / per_s."""
    draw, at_s = random.Random(seed), 0.0
    times = []
    for _ in range(count):
        at_s += draw.expovariate(per_s)
        times.append(at_s)
    return times


def steady_rate(done_s: Sequence[float], concurrency: int) -> float:
    """Answers a second while all clients of a closed loop were at work.

    From the answer number `concurrency` on, when every client has sent again, to the one that leaves
    `concurrency` in flight and none to be sent: the beginning and the end, when the server has less to
    choose batches from, are not counted.

    Raises:
        ValueError: too few answers to have such a time.
    """
    counted = len(done_s) - 2 * concurrency
    if counted < 1:
        raise ValueError(
            f"{len(done_s)} answers of {concurrency} clients; a steady rate needs more than "
            f"{2 * concurrency}."
        )
    ordered = sorted(done_s)
    return counted / (ordered[-concurrency - 1] - ordered[concurrency - 1])


def percentile(values: Sequence[float], cut: int) -> float:
    """Of the least value that is not below `cut` % of them (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * cut // 100) - 1)]


def percentiles_ms(values_ms: Sequence[float]) -> dict[str, float]:
    return {f"p{cut}": round(percentile(values_ms, cut), 2) for cut in (50, 95, 99)}


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round: a drift of the machine cancels."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
