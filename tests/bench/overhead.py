"""The server alone: a stub in the place of the model.

`front_ends`: the same server as one process, and with front ends before it; requests a second, which
cores to spare would raise, and the processor time of each process for a request, whose greatest sets
the limit whatever the machine does else.

`stub`: `tureen serve stub` against a bare FastAPI echo of the same bodies over HTTP, and one gRPC stream
against HTTP; bodies are questions and responses without passages. `cost`: how time per sample and memory
grow when one stream brings a thousand samples, or a million.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from bench import callers
from bench.load import paired_ratio, percentiles_ms, run_closed, steady_rate
from bench.plan import Part, Plan
from bench.processes import cpu_s, free_port, module, rss_mb, running
from bench.variants import STUB
from bench.workload import Request, Workload, grpc_requests, http_requests
from server_process import Server

FRONT_ENDS = (0, 2)  # processes before the one with the device
COST_CONCURRENCY = 64
COST_REPEATS = 10_000  # up to which number the time is too short to be read once
COST_CACHE_BYTES = 2**20  # full after the warm-up, so that what grows is not the cache
COST_WARM_UP = 5_000


def measure_stub(plan: Plan) -> Part:
    rates: dict[str, list[float]] = {"echo": [], "http": [], "stream": []}
    latencies: dict[str, list[float]] = {name: [] for name in rates}
    port = free_port()
    with plan.serving(STUB) as server, running(module("echo", str(port)), port):
        places = {"echo": port, "http": server.http_port}
        for number in range(-1, plan.rounds):  # the first one warms up
            samples = plan.workload.samples(plan.stub_samples + 2 * plan.concurrency, context=False)
            more = plan.workload.samples(len(samples), context=False)  # no cache may answer
            for name in plan.turns(number + 1, list(rates)):
                if name == "stream":
                    door, requests = callers.grpc_stream(server.target), grpc_requests(more)
                else:
                    door, requests = callers.http(places[name]), http_requests(samples)
                outcome = run_closed(door, requests, plan.concurrency)
                if number >= 0:
                    rates[name].append(steady_rate(outcome.done_s, plan.concurrency))
                    latencies[name] += outcome.latencies_ms
            if number >= 0:
                latest = {name: values[-1] for name, values in rates.items()}
                plan.say_round("stub", number, latest, "requests/s")
    return Part(
        {
            "stub_over_echo": paired_ratio(rates["http"], rates["echo"]),
            "stream_over_http": paired_ratio(rates["stream"], rates["http"]),
        },
        [
            {
                "what": name,
                "requests/s": round(statistics.median(rates[name]), 1),
                **percentiles_ms(latencies[name]),
            }
            for name in rates
        ],
        {"rounds": {name: [round(rate, 1) for rate in found] for name, found in rates.items()}},
    )


def measure_front_ends(plan: Plan) -> Part:
    servers: dict[int, Server] = {}
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        for count in FRONT_ENDS:
            server = plan.serving(STUB, "--front-ends", str(count))
            servers[count] = stack.enter_context(server)
        for number in range(-1, plan.rounds):  # the first one warms up
            for name in plan.turns(number + 1, ["http", "stream"]):
                for count, server in servers.items():
                    samples = plan.workload.samples(
                        plan.stub_samples + 2 * plan.concurrency, context=False
                    )
                    door, requests = (
                        (callers.http(server.http_port), http_requests(samples))
                        if name == "http"
                        else (callers.grpc_stream(server.target), grpc_requests(samples))
                    )
                    before = _cpu_s(server)
                    outcome = run_closed(door, requests, plan.concurrency)
                    engine, fronts = (
                        (after - then) / len(samples) * 1e6
                        for after, then in zip(_cpu_s(server), before, strict=True)
                    )
                    rate = steady_rate(outcome.done_s, plan.concurrency)
                    if number >= 0:
                        found.setdefault((name, count), []).append((rate, engine, fronts))
            if number >= 0:
                latest = {f"{name} {count}": rows[-1][0] for (name, count), rows in found.items()}
                plan.say_round("front_ends", number, latest, "requests/s")
    rows = []
    for (name, count), measured in sorted(found.items()):
        rate, engine, fronts = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append(
            {
                "what": f"{name}, {count or 'no'} front ends",
                "requests/s": round(rate, 1),
                "µs/request, process of the device": round(engine),
                "µs/request, front ends together": round(fronts),
            }
        )
    return Part({}, rows, {})


def _cpu_s(server: Server) -> tuple[float, float]:
    """Of the process with the device, and of all front ends."""
    fronts = server.children("front-end")
    [engine] = server.children("device") if fronts else [server.process.pid]
    return cpu_s(engine), sum(map(cpu_s, fronts))


def measure_cost(plan: Plan) -> Part:
    rows = []
    workload = Workload(seed=1)

    def stream(count: int) -> float:
        """Seconds."""
        door, requests = callers.grpc_stream(server.target), _streamed(workload, count)
        outcome = run_closed(door, requests, COST_CONCURRENCY)
        return max(outcome.done_s) - outcome.started_s

    with plan.serving(STUB, "--cache-bytes", str(COST_CACHE_BYTES)) as server:
        stream(min(COST_WARM_UP, plan.largest))
        for size in itertools.takewhile(
            lambda size: size <= plan.largest, (10**power for power in range(3, 7))
        ):
            repeats = range(plan.rounds if size <= COST_REPEATS else 1)
            per_sample_us = [stream(size) / size * 1e6 for _ in repeats]
            rows.append(
                {
                    "what": f"{size:,} samples",
                    "µs/sample": round(statistics.median(per_sample_us), 1),
                    "memory MB": rss_mb(server.process.pid),
                }
            )
            plan.say(f"cost: {rows[-1]}")
    times = [row["µs/sample"] for row in rows]
    memory = [row["memory MB"] for row in rows]
    return Part(
        {},
        rows,
        {
            "slowest_over_fastest": round(max(times) / min(times), 3),
            "memory_growth_mb": None if None in memory else round(memory[-1] - memory[0], 1),
            "cache_bytes": COST_CACHE_BYTES,
            "concurrency": COST_CONCURRENCY,
        },
    )


def _streamed(workload: Workload, count: int) -> Iterator[Request]:
    """Made as they are sent: the list of a million would be the load generator's memory."""
    for start in range(0, count, 250):
        yield from grpc_requests(workload.samples(min(250, count - start), context=False))
