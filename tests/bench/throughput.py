"""Closed loop at full load: this server on each backend, its ceilings, the bare control, the peer.

All take turns on the same new samples, one response a request over HTTP, and each is measured while all
its clients are at work (`load.steady_rate`). The ceilings have the processor to themselves.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop
from bench import callers, ceiling, peers
from bench.load import Outcome, paired_ratio, percentiles_ms, run_closed, steady_rate
from bench.plan import Part, Plan, described
from bench.processes import free_port, module, ordered, peak_rss_mb, running
from bench.variants import Variant
from bench.workload import Request, http_requests, rerank_requests

from tureen import Sample

CONTROL, SERIAL = "control", "control, one at a time"
WARM_UP_QUESTIONS = 16  # of four responses each


@dataclass(frozen=True)
class System:
    """Something that answers over HTTP. pid: whose memory is read."""

    name: str
    port: int
    pid: int
    path: str
    requests: Callable[[Sequence[Sample]], list[Request]]


def measure(plan: Plan) -> Part:
    with ExitStack() as stack:
        systems, infos = _served(plan, stack)
        systems += [
            _control(plan, stack, CONTROL),
            _control(plan, stack, SERIAL, "--one-at-a-time"),
        ]
        peer = peers.infinity(plan, stack) if plan.peers else peers.NOT_ASKED
        if peer.ports is not None:
            for name, (port, pid) in peer.ports.items():
                systems.append(System(name, port, pid, "/rerank", _rerank_requests(peer.model)))
        ceilings = {
            f"ceiling {variant.name}": stack.enter_context(
                ordered(
                    "bench.ceiling",
                    variant.model,
                    "--options",
                    orjson.dumps(variant.options).decode(),
                )
            )
            for variant in plan.variants
        }
        parity = _warm_up(plan, systems)
        rates: dict[str, list[float]] = {}
        latencies: dict[str, list[float]] = {}
        batches: dict[str, list[dict[str, float]]] = {}
        for number in range(plan.rounds):
            samples = plan.workload.samples(plan.samples + 2 * plan.concurrency)
            by_name = {system.name: system for system in systems}
            for name in plan.turns(number, [*by_name, *ceilings]):
                if name in ceilings:
                    found = ceilings[name].ask(ceiling.as_json(samples))
                    rates.setdefault(name, []).append(found["samples_per_s"])
                    batches.setdefault(name, []).append(found)
                    continue
                outcome = drive(by_name[name], samples, plan.concurrency)
                rates.setdefault(name, []).append(steady_rate(outcome.done_s, plan.concurrency))
                latencies.setdefault(name, []).extend(outcome.latencies_ms)
            latest = {name: values[-1] for name, values in rates.items()}
            plan.say_round("throughput", number, latest, "samples/s")
        memory = {system.name: peak_rss_mb(system.pid) for system in systems}
    return _part(
        plan,
        rates,
        latencies,
        {
            "models": infos,
            "parity_with_first": parity,
            "peak_rss_mb": memory,
            "ceiling_batches": {name: found[-1] for name, found in batches.items()},
            "infinity": peer.card,
            "left_out": plan.left_out,
            "exports": plan.exports,
        },
    )


def drive(system: System, samples: Sequence[Sample], concurrency: int) -> Outcome:
    door = callers.http(system.port, system.path)
    return run_closed(door, system.requests(samples), concurrency)


def served(variant: Variant) -> str:
    return f"served {variant.name}"


def _served(plan: Plan, stack: ExitStack) -> tuple[list[System], dict[str, Any]]:
    systems, infos = [], {}
    for variant in plan.variants:
        server = stack.enter_context(plan.serving(variant))
        infos[variant.name] = described(server)
        systems.append(
            System(
                served(variant), server.http_port, server.process.pid, "/v1/score", http_requests
            )
        )
    return systems, infos


def _control(plan: Plan, stack: ExitStack, name: str, *flags: str) -> System:
    port = free_port()
    command = module("control", plan.variants[0].model, str(port), *flags)
    process = stack.enter_context(running(command, port))
    return System(name, port, process.pid, "/v1/score", http_requests)


def _rerank_requests(model: str) -> Callable[[Sequence[Sample]], list[Request]]:
    return lambda samples: rerank_requests(samples, model)


def _warm_up(plan: Plan, systems: Sequence[System]) -> dict[str, dict[str, float]]:
    """The first requests pay for threads and buffers; and say how far the backends are apart."""
    questions = plan.workload.samples(WARM_UP_QUESTIONS, responses=4)
    single = [
        Sample(id=f"{one.id}.{k}", prompt=one.prompt, context=one.context, responses=(response,))
        for one in questions
        for k, response in enumerate(one.responses)
    ]
    rewards: dict[str, list[float]] = {}
    for system in systems:
        drive(system, single, plan.concurrency)
        if system.name.startswith("served") and system.path == "/v1/score":
            rewards[system.name] = _rewards(system, questions)
    reference = rewards[served(plan.variants[0])]
    return {name: parity(reference, found) for name, found in rewards.items()}


def _rewards(system: System, questions: Sequence[Sample]) -> list[float]:
    async def run() -> list[float]:
        async with callers.http(system.port) as call:
            answers = [orjson.loads(await call(one)) for one in http_requests(questions)]
        scores = itertools.chain.from_iterable(a["results"][0]["scores"] for a in answers)
        return [score["reward"] for score in scores]

    return uvloop.run(run())


def parity(
    reference: Sequence[float], found: Sequence[float], responses: int = 4
) -> dict[str, float]:
    """How far rewards are from those of the reference, and how many pairs of a prompt they turn."""
    flipped = pairs = 0
    for start in range(0, len(reference), responses):
        for i, j in itertools.combinations(range(start, start + responses), 2):
            pairs += 1
            flipped += (reference[i] > reference[j]) != (found[i] > found[j])
    error = max(abs(a - b) for a, b in zip(reference, found, strict=True))
    return {"max_abs_reward_error": error, "pair_flip_rate": flipped / pairs, "pairs": pairs}


def _part(
    plan: Plan,
    rates: dict[str, list[float]],
    latencies: dict[str, list[float]],
    details: dict[str, Any],
) -> Part:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    fp32 = [variant for variant in plan.variants if not variant.is_int8]
    best = max(fp32, key=lambda variant: medians[served(variant)])
    int8 = next((variant for variant in plan.variants if variant.is_int8), None)

    def ratio(over: str, under: str) -> float | None:
        known = over in rates and under in rates
        return paired_ratio(rates[over], rates[under]) if known else None

    ratios = {
        "served_over_ceiling": ratio(served(best), f"ceiling {best.name}"),
        "served_over_control": ratio(served(best), CONTROL),
        "int8_over_control": ratio(served(int8), CONTROL) if int8 else None,
        "served_over_infinity": ratio(peers.SERVED, peers.INFINITY),
    }
    rows = [
        {
            "what": name,
            "samples/s": round(medians[name], 2),
            **(percentiles_ms(latencies[name]) if name in latencies else {}),
        }
        for name in rates
    ]
    by_backend = {
        variant.name: {
            "over_ceiling": ratio(served(variant), f"ceiling {variant.name}"),
            "over_control": ratio(served(variant), CONTROL),
            "over_serial_control": ratio(served(variant), SERIAL),
        }
        for variant in plan.variants
    }
    return Part(
        ratios,
        rows,
        {
            "fp32_backend_of_the_ratios": best.name,
            "by_backend": by_backend,
            "rounds": {name: [round(rate, 3) for rate in values] for name, values in rates.items()},
            **details,
        },
    )
