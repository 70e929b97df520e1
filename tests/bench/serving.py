"""Throughput of the server against its ceiling and against a bare control, in one run on one machine.

    served    a `tureen serve` process, `--concurrency` clients in a closed loop, one sample a request
    control   FastAPI and transformers, one forward pass a request (`control.py`), the same clients
    ceiling   the same backend fed perfect batches in a process of its own: sorted by length, packed
              to the server's limits, already collated; nothing but forward passes is timed

The three take turns, `--rounds` times, on fresh samples each time (no cache can answer), and the
medians over the rounds are compared. Lengths are those of QA-Feedback (`workload.py`). On a CPU the
clients share the cores with what they measure; the ceiling has them to itself.

Prints a card and a table; the last line of stdout is the same as one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from rich.console import Console
from rich.table import Table
from workload import Workload

from tureen.engine.limits import EngineLimits
from tureen.engine.loading import load_model
from tureen.engine.queue import Entry, Queue
from tureen.text.batch import collate

HERE = Path(__file__).parent
READY_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--model", default="grounded-qa")
    parser.add_argument("--backend", default="auto", help="of server and ceiling")
    parser.add_argument("--samples", type=int, default=128, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="48 samples, 2 rounds")
    parser.add_argument("--ceiling-seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.samples, args.rounds = 48, 2
    if args.ceiling_seed is not None:
        print(json.dumps(ceiling(args)))
        return
    report = measure(args)
    show(report)
    print(json.dumps(report))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    progress = Console(stderr=True)
    rates: dict[str, list[float]] = {"served": [], "control": [], "ceiling": []}
    latencies_ms: dict[str, list[float]] = {"served": [], "control": []}
    server_port, grpc_port, control_port = free_port(), free_port(), free_port()
    serve = ["-m", "tureen.cli", "serve", args.model, "--backend", args.backend]
    serve += ["--http-port", str(server_port), "--grpc-port", str(grpc_port)]
    with (
        running(serve, server_port) as server,
        running([str(HERE / "control.py"), args.model, str(control_port)], control_port),
    ):
        info = get_json(f"http://127.0.0.1:{server_port}/v1/models")["models"][0]
        for port in (server_port, control_port):  # the first requests pay for threads and buffers
            asyncio.run(drive(port, Workload.mixed(16, seed=-1).bodies(), args.concurrency))
        for round_ in range(args.rounds):
            bodies = Workload.mixed(args.samples, seed=round_).bodies()
            for name, port in (("served", server_port), ("control", control_port)):
                rate, took_ms = asyncio.run(drive(port, bodies, args.concurrency))
                rates[name].append(rate)
                latencies_ms[name] += took_ms
            rates["ceiling"].append(run_ceiling(args, round_))
            latest = ", ".join(f"{name} {values[-1]:.2f}" for name, values in rates.items())
            progress.print(f"round {round_ + 1}/{args.rounds}: {latest} samples/s", style="dim")
        peak_rss = server.peak_rss_mb()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "ratios": {
            "served_over_ceiling": round(medians["served"] / medians["ceiling"], 4),
            "served_over_control": round(medians["served"] / medians["control"], 4),
        },
        "samples_per_s": {name: round(value, 3) for name, value in medians.items()},
        "rounds": {name: [round(rate, 3) for rate in values] for name, values in rates.items()},
        "latency_ms": {name: percentiles(values) for name, values in latencies_ms.items()},
        "server": {"start_to_ready_s": round(server.ready_s, 2), "peak_rss_mb": peak_rss},
        "card": {
            "model": info["id"],
            "fingerprint": info["fingerprint"],
            "backend": info["backend"],
            "dtype": info["dtype"],
            "device": info["device"],
            "limits": info["limits"],
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "concurrency": args.concurrency,
            "samples_a_round": args.samples,
            "rounds": args.rounds,
            "lengths": "QA-Feedback, one response a request",
        },
    }


def run_ceiling(args: argparse.Namespace, seed: int) -> float:
    command = [sys.executable, str(HERE / "serving.py"), "--model", args.model]
    command += ["--backend", args.backend, "--samples", str(args.samples)]
    command += ["--ceiling-seed", str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["samples_per_s"]


def ceiling(args: argparse.Namespace) -> dict[str, float]:
    """Samples a second of the backend alone on the windows of one round."""
    model = load_model(args.model, backend=args.backend)
    limits = EngineLimits().batch_limits(model.backend.info.device)
    granularities = {head.granularity for head in model.heads}
    samples = Workload.mixed(args.samples, seed=args.ceiling_seed).samples
    # All windows wait at once, so the queue's own rule forms batches it never could under load.
    queue = Queue(
        max_batch_tokens=limits.max_batch_tokens,
        max_batch_requests=limits.max_batch_requests,
        overhead_tokens=limits.overhead_tokens,
    )
    for sample in samples:
        for encoded in model.encoder.encode(sample, granularities):
            for window in encoded.windows:
                queue.append(Entry(window))
    batches = []
    while len(queue):
        entries = queue.next_batch(0).entries
        batches.append(collate([entry.window for entry in entries], model.pad_id))
    for batch in batches[:2]:
        model.backend.forward(batch)
    started_s = time.perf_counter()
    for batch in batches:
        model.backend.forward(batch)
    return {"samples_per_s": len(samples) / (time.perf_counter() - started_s)}


async def drive(port: int, bodies: list[bytes], concurrency: int) -> tuple[float, list[float]]:
    """Sends every body, `concurrency` at a time; samples a second and each latency in ms."""
    waiting = iter(bodies)
    took_ms: list[float] = []

    async def client(http: httpx2.AsyncClient) -> None:
        for body in waiting:
            started_s = time.perf_counter()
            answer = await http.post("/v1/score", content=body, timeout=300)
            if answer.status_code != 200:
                raise RuntimeError(f"port {port}: HTTP {answer.status_code} {answer.text[:300]}")
            took_ms.append((time.perf_counter() - started_s) * 1e3)

    pool = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    headers = {"content-type": "application/json"}
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", limits=pool, headers=headers
    ) as http:
        started_s = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(concurrency)))
        return len(bodies) / (time.perf_counter() - started_s), took_ms


class Running:
    def __init__(self, process: subprocess.Popen[bytes], ready_s: float) -> None:
        self._process = psutil.Process(process.pid)
        self.ready_s = ready_s

    def peak_rss_mb(self) -> float | None:
        """High-water mark of the resident memory, where the system keeps one."""
        status = Path(f"/proc/{self._process.pid}/status")
        if not status.is_file():
            return None
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)


@contextmanager
def running(arguments: list[str], port: int) -> Iterator[Running]:
    """A process, from when its /readyz answers 200 to the end of the block."""
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not is_ready(port):
            waited_s = time.perf_counter() - started_s
            if process.poll() is not None or waited_s > READY_S:
                raise RuntimeError(f"{' '.join(arguments)} was not ready after {waited_s:.0f} s")
            time.sleep(0.05)
        yield Running(process, time.perf_counter() - started_s)
    finally:
        process.terminate()
        process.wait(30)


def is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
    except (urllib.error.URLError, OSError):
        return False
    return True


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def percentiles(values_ms: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values_ms, n=100)
    return {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)}


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def show(report: dict[str, Any]) -> None:
    console = Console(width=100)
    for key, value in report["card"].items():
        console.print(f"{key:>16}  {value}", highlight=False)
    console.print(f"{'start to ready':>16}  {report['server']['start_to_ready_s']} s")
    console.print(f"{'peak memory':>16}  {report['server']['peak_rss_mb']} MB")
    table = Table("", "samples/s", "p50 ms", "p95 ms", "p99 ms", "of the ceiling")
    for name in ("ceiling", "served", "control"):
        latency = report["latency_ms"].get(name, {})
        share = report["samples_per_s"][name] / report["samples_per_s"]["ceiling"]
        table.add_row(
            name,
            f"{report['samples_per_s'][name]:.2f}",
            *(str(latency.get(cut, "")) for cut in ("p50", "p95", "p99")),
            f"{share:.3f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
