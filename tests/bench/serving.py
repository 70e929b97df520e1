"""The serving benchmark: this server beside its controls and its limit, in one run on one machine.

    make bench                             everything, about twelve minutes on two quiet cores
    make bench ARGS='--quick'              the same with little of everything: a look, no figures
    make bench ARGS='--only stub,cost --largest 1000000'

    throughput   closed loop at full load on each backend; perfect batches (the ceiling); bare FastAPI and
                 transformers (the control); infinity-emb with the same weights
    open         Poisson arrivals at shares of capacity; latency from when a request was due
    doors        unary HTTP, unary gRPC, one gRPC stream, four responses a request
    members      four members with uncertainty against the soup alone
    lone         what one request waits beyond its forward pass
    lanes        interactive requests calm, and beside bulk that saturates
    front_ends   the server without a model, as one process and with front ends before it
    stub, cost   the server without a model: against a bare echo; from a thousand samples to a million
    gpu          matrix products, an 8B-class decoder, shared prefixes (`bench.gpu`); null without CUDA

What is compared takes turns, `--rounds` times, on samples that were never sent before; a ratio is the median
over the rounds of the ratio within a round. The load generator runs on the machine it measures.

Prints a card and tables; the last line of stdout is the same as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import every_door, gpu, latency, overhead, throughput, variants
from bench.plan import Part, Plan
from bench.processes import machine
from bench.ratios import joined
from bench.report import show
from bench.workload import Workload, words_of

PARTS: dict[str, Callable[[Plan], Part]] = {
    "throughput": throughput.measure,
    "open": latency.measure_open,
    "doors": every_door.measure_doors,
    "members": every_door.measure_members,
    "lone": latency.measure_lone,
    "lanes": latency.measure_lanes,
    "stub": overhead.measure_stub,
    "front_ends": overhead.measure_front_ends,
    "cost": overhead.measure_cost,
    "gpu": gpu.measure,
}

FULL = {"rounds": 5, "samples": 160, "stub_samples": 3000, "largest": 100_000}
QUICK = {"rounds": 2, "samples": 48, "stub_samples": 200, "largest": 1_000}


def main(argv: list[str] | None = None) -> None:
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves no server behind
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tureen-bench-") as scratch:
        plan = _plan(args, Path(scratch))
        parts = {name: PARTS[name](plan) for name in args.only}
        card = _card(args, plan, time.perf_counter() - started_s)
    ratios = joined(part.ratios for part in parts.values())
    show(card, parts, ratios)
    report = {
        "ratios": ratios,
        "card": card,
        "parts": {name: {"rows": part.rows, **part.details} for name, part in parts.items()},
    }
    print(json.dumps(report))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="grounded-qa", help="or a directory, or stub")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--rounds", type=int, help=_sizes("rounds"))
    parser.add_argument("--samples", type=int, help="of the model, in a round" + _sizes("samples"))
    parser.add_argument(
        "--stub-samples", type=int, help="of the stub, in a round" + _sizes("stub_samples")
    )
    parser.add_argument("--largest", type=int, help="samples of `cost`" + _sizes("largest"))
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight")
    parser.add_argument("--no-peers", action="store_true", help="leave infinity-emb out")
    parser.add_argument("--quick", action="store_true", help="a look, no figures")
    args = parser.parse_args(argv)
    args.only = args.only.split(",")
    unknown = [name for name in args.only if name not in PARTS]
    if unknown:
        parser.error(f"--only names {', '.join(unknown)}; parts are {', '.join(PARTS)}")
    for name, size in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, size)
    return args


def _sizes(name: str) -> str:
    return f" [{FULL[name]}; --quick {QUICK[name]}]"


def _plan(args: argparse.Namespace, scratch: Path) -> Plan:
    found = variants.of(args.model, scratch)
    return Plan(
        default=found.default,
        variants=found.each,
        left_out=found.left_out,
        exports=found.exports,
        workload=Workload(),
        scratch=scratch,
        samples=args.samples,
        stub_samples=args.stub_samples,
        rounds=args.rounds,
        concurrency=args.concurrency,
        largest=args.largest,
        peers=not args.no_peers,
    )


def _card(args: argparse.Namespace, plan: Plan, took_s: float) -> dict[str, Any]:
    drawn = plan.workload.samples(400)
    return {
        "model": args.model,
        "parts": args.only,
        "concurrency": plan.concurrency,
        "rounds": plan.rounds,
        "samples_a_round": plan.samples,
        "stub_samples_a_round": plan.stub_samples,
        "texts": plan.workload.source,
        "words (p5, p50, p95)": words_of(drawn),
        "client": "asyncio and httptools on uvloop (HTTP), grpc.aio; on the machine it measures",
        **machine(),
        "took_s": round(took_s),
    }


if __name__ == "__main__":
    main()
