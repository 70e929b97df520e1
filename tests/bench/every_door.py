"""The default model through every door, and what its members cost.

`doors`: responses a second of unary HTTP, unary gRPC, one gRPC stream, and HTTP with the four responses of
a prompt in one request; as many responses in flight each time. `members`: the same requests with and
without uncertainty, which is computed from the members.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from bench import callers
from bench.callers import Call
from bench.load import paired_ratio, percentiles_ms, run_closed, steady_rate
from bench.plan import Part, Plan, described
from bench.workload import Request, grpc_requests, http_requests
from server_process import Server

from tureen import Sample

BATCHED = 4  # responses of a prompt in one request

Open = Callable[[Server], AbstractAsyncContextManager[Call]]


def measure_doors(plan: Plan) -> Part:
    doors: dict[str, tuple[Open, int, Callable[[list[Sample]], list[Request]]]] = {
        "http": (lambda server: callers.http(server.http_port), 1, http_requests),
        "grpc": (lambda server: callers.grpc_unary(server.target), 1, grpc_requests),
        "stream": (lambda server: callers.grpc_stream(server.target), 1, grpc_requests),
        f"http, {BATCHED} a prompt": (
            lambda server: callers.http(server.http_port),
            BATCHED,
            http_requests,
        ),
    }

    def drive(server: Server, name: str, count: int) -> tuple[float, list[float]]:
        open_door, responses, requests = doors[name]
        concurrency = max(1, plan.concurrency // responses)
        samples = plan.workload.samples(count // responses + 2 * concurrency, responses=responses)
        outcome = run_closed(open_door(server), requests(samples), concurrency)
        return responses * steady_rate(outcome.done_s, concurrency), outcome.latencies_ms

    return _measured(plan, "doors", list(doors), drive, lambda _: {})


def measure_members(plan: Plan) -> Part:
    """Ratio: time with members over time without, so the rate without over the rate with."""

    def drive(server: Server, name: str, count: int) -> tuple[float, list[float]]:
        samples = plan.workload.samples(count + 2 * plan.concurrency)
        requests = http_requests(samples, uncertainty=name == "members")
        outcome = run_closed(callers.http(server.http_port), requests, plan.concurrency)
        return steady_rate(outcome.done_s, plan.concurrency), outcome.latencies_ms

    return _measured(
        plan,
        "members",
        ["soup", "members"],
        drive,
        lambda rates: {"members_over_soup": paired_ratio(rates["soup"], rates["members"])},
    )


def _measured(
    plan: Plan,
    part: str,
    names: list[str],
    drive: Callable[[Server, str, int], tuple[float, list[float]]],
    ratios: Callable[[dict[str, list[float]]], dict[str, float | None]],
) -> Part:
    rates: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[float]] = {name: [] for name in names}
    with plan.serving(plan.default) as server:
        model = described(server)
        drive(server, names[0], plan.samples // 4)  # pays for threads and buffers
        for number in range(plan.rounds):
            for name in plan.turns(number, names):
                rate, took_ms = drive(server, name, plan.samples)
                rates[name].append(rate)
                latencies[name] += took_ms
            latest = {name: values[-1] for name, values in rates.items()}
            plan.say_round(part, number, latest, "responses/s")
    rows = [
        {
            "what": name,
            "responses/s": round(statistics.median(rates[name]), 2),
            **percentiles_ms(latencies[name]),
        }
        for name in names
    ]
    return Part(
        ratios(rates),
        rows,
        {
            "backend": model["backend"],
            "dtype": model["dtype"],
            "members": model["members"],
            "rounds": {name: [round(rate, 3) for rate in found] for name, found in rates.items()},
        },
    )
