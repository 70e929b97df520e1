"""A server at saturation for as long as it takes to see a leak: its memory stays flat, nobody is failed.

    nice python tests/bench/soak.py --minutes 20

`tureen serve stub` with small limits; clients of both doors in closed loops ask for more than it takes, so
that some are refused, some cancel, some give too little time, and some send what is wrong. Of the
resident memory, read once a second, the first fifth is the warm-up (allocators, caches filling); the medians of
the fifth after it and of the last one are compared. The last line of stdout is one JSON object; the
exit status is 1 when anything but a documented refusal came, or when memory grew by more than --mb.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import grpc.aio
import httpx2
import psutil
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from server_process import Server, serving

from tureen.v1 import reward_pb2 as pb

SATURATED = (
    ("--max-concurrent-requests", "48"),
    ("--max-client-batch-size", "48"),
    ("--max-batch-requests", "16"),
    ("--cache-bytes", str(2**20)),  # is full before memory is compared
)
HTTP_CLIENTS, GRPC_CLIENTS, RESPONSES = 12, 12, 4
EXPECTED = {"200", "OK", "left", "422", "INVALID_ARGUMENT", "503", "UNAVAILABLE"}
EXPECTED |= {"504", "DEADLINE_EXCEEDED"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--mb", type=float, default=8, help="growth of memory that is allowed")
    args = parser.parse_args()
    report = soak(args.minutes * 60, args.mb)
    Console(stderr=True).print(report)
    print(json.dumps(report))
    return 0 if report["ok"] else 1


def soak(seconds: float, allowed_mb: float) -> dict[str, object]:
    with serving("stub", *(word for pair in SATURATED for word in pair)) as server:
        outcomes, memory_mb = asyncio.run(_load(server, seconds))
        status = server.stop()
    fifth, tenth = max(1, len(memory_mb) // 5), max(1, len(memory_mb) // 10)
    before, after = (
        statistics.median(memory_mb[fifth : 2 * fifth]),
        statistics.median(memory_mb[-fifth:]),
    )
    unexpected = {code: n for code, n in outcomes.items() if code not in EXPECTED}
    answered = outcomes["200"] + outcomes["OK"]
    return {
        "ok": not unexpected and status == 0 and answered > 0 and after - before <= allowed_mb,
        "seconds": round(seconds, 1),
        "answered": answered,
        "requests_per_s": round(sum(outcomes.values()) / seconds, 1),
        "outcomes": dict(sorted(outcomes.items())),
        "unexpected": unexpected,
        "memory_mb": {
            "early": round(before, 1),
            "late": round(after, 1),
            "growth": round(after - before, 1),
            "tenths": [
                round(statistics.median(memory_mb[i * len(memory_mb) // 10 :][:tenth]), 1)
                for i in range(10)
            ],
        },
        "exit_status": status,
    }


async def _load(server: Server, seconds: float) -> tuple[Counter[str], list[float]]:
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    memory_mb: list[float] = []
    process = psutil.Process(server.process.pid)

    async def watch() -> None:
        while time.monotonic() < until:
            memory_mb.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(min(1.0, seconds / 50))

    async with (
        httpx2.AsyncClient(base_url=server.url, timeout=30) as http,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        by_http = [_over_http(http, until, outcomes, seed) for seed in range(HTTP_CLIENTS)]
        by_grpc = [_over_grpc(channel, until, outcomes, seed) for seed in range(GRPC_CLIENTS)]
        await asyncio.gather(watch(), *by_http, *by_grpc)
    return outcomes, memory_mb


async def _over_http(
    http: httpx2.AsyncClient, until: float, outcomes: Counter[str], seed: int
) -> None:
    draw = random.Random(seed)
    while time.monotonic() < until:
        headers = {"x-request-timeout-ms": "1"} if draw.random() < 0.05 else {}
        body: dict[str, object] = {"samples": [{"prompt": "a", "responses": _responses(draw)}]}
        if draw.random() < 0.05:
            body["unknown"] = 1
        asking = http.post("/v1/score", json=body, headers=headers)
        try:
            if draw.random() < 0.05:
                await asyncio.wait_for(asking, 0.002)
                continue
            answer = await asking
        except TimeoutError:
            outcomes["left"] += 1
            continue
        outcomes[str(answer.status_code)] += 1
        if answer.status_code == 503:
            await asyncio.sleep(0.01)


async def _over_grpc(
    channel: grpc.aio.Channel, until: float, outcomes: Counter[str], seed: int
) -> None:
    draw = random.Random(1000 + seed)
    score = channel.unary_unary("/tureen.v1.RewardService/Score")
    while time.monotonic() < until:
        sample = pb.Sample(prompt="a", responses=_responses(draw))
        message = pb.ScoreRequest(samples=[sample]).SerializeToString()
        if draw.random() < 0.05:
            message = b"\xff"
        try:
            await score(message, timeout=0.002 if draw.random() < 0.05 else 30)
            outcomes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            outcomes[error.code().name] += 1
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(0.01)


def _responses(draw: random.Random) -> list[str]:
    """New ones each time, but for some that a cache can answer."""
    if draw.random() < 0.2:
        return ["The same."] * RESPONSES
    return [f"{draw.random()} " * draw.randint(1, 40) for _ in range(RESPONSES)]


if __name__ == "__main__":
    sys.exit(main())
