"""How long one request takes: alone, at a stated share of capacity, and beside a flood of bulk.

`lone`: one request at a time; what the client waits beyond the forward pass that the server reports.
`open`: Poisson arrivals at shares of this server's closed-loop capacity, the bare control at the same
rates; latencies run from when a request was due. `lanes`: the same sparse interactive requests while
nothing else runs, and while bulk requests fill the queue.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from itertools import chain

import orjson
import uvloop
from bench import callers
from bench.callers import Call
from bench.load import (
    Outcome,
    closed_loop,
    open_loop,
    percentile,
    percentiles_ms,
    run_closed,
    run_open,
    steady_rate,
)
from bench.plan import Part, Plan
from bench.processes import free_port, module, running
from bench.workload import Request, grpc_requests, http_requests

from tureen.v1 import reward_pb2 as pb

SHARES = (0.5, 0.8)  # of the capacity
INTERACTIVE_SHARE = 0.1
BULK_CLIENTS, BULK_RESPONSES = 16, 4
BULK = {"x-priority": "bulk"}


def measure_lone(plan: Plan) -> Part:
    count = max(8, plan.samples // 4)
    added_ms: dict[str, list[float]] = {"http": [], "grpc": []}
    per_round: dict[str, list[float]] = {"http": [], "grpc": []}

    async def ask(
        opened: AbstractAsyncContextManager[Call], requests: list[Request], forward: str
    ) -> list[float]:
        beyond = []
        async with opened as call:
            for request in requests:
                started_s = time.perf_counter()
                answer = await call(request)
                took_ms = (time.perf_counter() - started_s) * 1e3
                beyond.append(took_ms - _forward_ms(answer, forward))
        return beyond[2:]  # the first ones pay for the connection

    with plan.serving(plan.default) as server:
        for number in range(plan.rounds):
            for name in plan.turns(number, list(added_ms)):
                samples = plan.workload.samples(count + 2)
                if name == "http":
                    work = ask(callers.http(server.http_port), http_requests(samples), name)
                else:
                    work = ask(callers.grpc_unary(server.target), grpc_requests(samples), name)
                found = uvloop.run(work)
                added_ms[name] += found
                per_round[name].append(statistics.median(found))
            latest = {name: values[-1] for name, values in per_round.items()}
            plan.say_round("lone", number, latest, "ms beyond the forward pass")
    return Part(
        {"added_latency_ms": statistics.median(per_round["http"])},
        [{"what": name, **percentiles_ms(values)} for name, values in added_ms.items()],
        {"rounds": {name: [round(ms, 3) for ms in found] for name, found in per_round.items()}},
    )


def _forward_ms(answer: bytes, door: str) -> float:
    if door == "http":
        return orjson.loads(answer)["timings"]["forward_ns"] / 1e6
    return pb.ScoreResponse.FromString(answer).timings.forward_ns / 1e6


def measure_open(plan: Plan) -> Part:
    control_port = free_port()
    found: dict[tuple[str, float], list[Outcome]] = {}
    with (
        plan.serving(plan.default) as server,
        running(module("control", plan.default.model, str(control_port)), control_port),
    ):
        ports = {"served": server.http_port, "control": control_port}
        capacities = {name: _capacity(plan, port) for name, port in ports.items()}
        for number in range(plan.rounds):
            for share in SHARES:
                samples = plan.workload.samples(plan.samples)
                for name in plan.turns(number, list(ports)):
                    per_s = share * capacities["served"]
                    outcome = run_open(
                        callers.http(ports[name]), http_requests(samples), per_s, number
                    )
                    found.setdefault((name, share), []).append(outcome)
            plan.say(f"open, round {number + 1} of {plan.rounds}")
    rows = []
    for (name, share), outcomes in sorted(found.items()):
        latencies = [ms for outcome in outcomes for ms in outcome.latencies_ms]
        rows.append(
            {
                "what": f"{name} at {share:.0%} of the server's capacity",
                "due/s": round(share * capacities["served"], 2),
                **percentiles_ms(latencies),
                "sent late, p99": round(
                    percentile([ms for outcome in outcomes for ms in outcome.late_ms], 99), 2
                ),
            }
        )
    return Part(
        {},
        rows,
        {
            "closed_loop_per_s": {name: round(rate, 2) for name, rate in capacities.items()},
            "arrivals": "Poisson",
        },
    )


def measure_lanes(plan: Plan) -> Part:
    calm: list[list[float]] = []
    loaded: list[list[float]] = []
    batches_ms: list[float] = []
    with plan.serving(plan.default) as server:
        rate = INTERACTIVE_SHARE * _capacity(plan, server.http_port)
        count = max(20, plan.samples // 4)
        for number in range(plan.rounds):
            requests = http_requests(plan.workload.samples(count))
            door = callers.http(server.http_port)
            calm.append(run_open(door, requests, rate, number).latencies_ms)
            requests = http_requests(plan.workload.samples(count))
            outcome, forwards = uvloop.run(
                _beside_bulk(plan, server.http_port, requests, rate, number)
            )
            loaded.append(outcome.latencies_ms)
            batches_ms += forwards
            latest = {"calm": percentile(calm[-1], 99), "loaded": percentile(loaded[-1], 99)}
            plan.say_round("lanes", number, latest, "ms p99")
    all_calm, all_loaded = list(chain.from_iterable(calm)), list(chain.from_iterable(loaded))
    batch_ms = percentile(batches_ms, 95)
    calm_p99, loaded_p99 = percentile(all_calm, 99), percentile(all_loaded, 99)
    return Part(
        {"interactive_p99_over_calm": loaded_p99 / calm_p99},
        [
            {"what": "interactive, calm", **percentiles_ms(all_calm)},
            {"what": "interactive beside bulk", **percentiles_ms(all_loaded)},
            {"what": "one batch of bulk (forward)", **percentiles_ms(batches_ms)},
        ],
        {
            "interactive_per_s": round(rate, 2),
            "interactive_requests": len(all_calm),
            "allowed_p99_ms": round(3 * calm_p99 + batch_ms, 1),
            "within": loaded_p99 <= 3 * calm_p99 + batch_ms,
            "p99_of_rounds_ms": {
                "calm": [round(percentile(values, 99), 1) for values in calm],
                "loaded": [round(percentile(values, 99), 1) for values in loaded],
            },
            "bulk": f"{BULK_CLIENTS} clients, {BULK_RESPONSES} responses a request",
        },
    )


async def _beside_bulk(
    plan: Plan, port: int, requests: list[Request], per_s: float, seed: int
) -> tuple[Outcome, list[float]]:
    """Interactive requests while bulk saturates; and the forward passes that bulk reports, in ms."""
    forwards_ms: list[float] = []
    saturated, over = asyncio.Event(), asyncio.Event()

    def endless() -> Iterator[Request]:
        while not over.is_set():
            yield from http_requests(plan.workload.samples(BULK_CLIENTS, responses=BULK_RESPONSES))

    async with callers.http(port, headers=BULK) as bulk, callers.http(port) as interactive:

        async def timed(request: Request) -> bytes:
            answer = await bulk(request)
            forwards_ms.append(_forward_ms(answer, "http"))
            if len(forwards_ms) >= BULK_CLIENTS:
                saturated.set()
            return answer

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(closed_loop(timed, endless(), BULK_CLIENTS))
            await saturated.wait()
            outcome = await open_loop(interactive, requests, per_s, seed)
            over.set()
    return outcome, forwards_ms


def _capacity(plan: Plan, port: int) -> float:
    """Answers a second of a closed loop; it warms the server up, too."""
    samples = plan.workload.samples(plan.samples // 2 + 2 * plan.concurrency)
    outcome = run_closed(callers.http(port), http_requests(samples), plan.concurrency)
    return steady_rate(outcome.done_s, plan.concurrency)
