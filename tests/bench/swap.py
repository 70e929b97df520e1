"""What a swap of the soup costs whoever asks meanwhile.

    python tests/bench/swap.py --swaps 6

`tureen serve`, clients in a closed loop, one sample a request, and every two seconds another soup: that of
other coefficients, then back. A request was near a swap when it was under way between the order to swap
and the moment at which all that had begun before was answered; the others were calm. At most one batch
may the swap cost: the slowest request near a swap against the slowest calm one, in forward passes of the
largest batch. The last line of stdout is one JSON object; the exit status is 1 when it cost more, or when
a request was not answered with a score.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import callers
from bench.load import percentiles_ms
from bench.workload import Workload, http_requests
from server_process import Server, serving

from tureen.client import AsyncRewardClient
from tureen.contracts import SoupState

ADMIN = "admin-key-of-a-benchmark"
PERIOD_S = 2.0
WARM_UP = 32  # requests


class Answer(NamedTuple):
    begun_s: float
    ended_s: float
    forward_ms: float
    fingerprint: str

    @property
    def took_ms(self) -> float:
        return (self.ended_s - self.begun_s) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--model", default="grounded-qa")
    parser.add_argument("--swaps", type=int, default=6)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as state,
        serving(args.model, "--state-dir", state, env={"TUREEN_ADMIN_KEY": ADMIN}) as server,
    ):
        answers, swaps = asyncio.run(_load(server, args.swaps, args.clients))
    report = judged(answers, swaps)
    Console(stderr=True).print(report)
    print(json.dumps(report))
    return 0 if report["ok"] else 1


def judged(answers: list[Answer], swaps: list[tuple[float, float]]) -> dict[str, object]:
    """swaps: from when to when each was under way."""
    near: list[float] = []
    calm: list[float] = []
    for one in answers:
        beside = any(one.begun_s < end and start < one.ended_s for start, end in swaps)
        (near if beside else calm).append(one.took_ms)
    batch_ms = max(one.forward_ms for one in answers)
    cost_ms = max(near) - max(calm)
    return {
        "ok": cost_ms <= batch_ms and len({one.fingerprint for one in answers}) == 2,
        "swaps": len(swaps),
        "calm": {"requests": len(calm), **percentiles_ms(calm), "slowest": round(max(calm), 1)},
        "near": {"requests": len(near), **percentiles_ms(near), "slowest": round(max(near), 1)},
        "cost_ms": round(cost_ms, 1),
        "largest_batch_ms": round(batch_ms, 1),
    }


async def _load(
    server: Server, swaps: int, clients: int
) -> tuple[list[Answer], list[tuple[float, float]]]:
    answers: list[Answer] = []
    swapped: list[tuple[float, float]] = []
    in_flight: dict[int, float] = {}
    done = asyncio.Event()
    workload = Workload(seed=0)

    async def ask(number: int, call: callers.Call) -> None:
        while not done.is_set():
            (request,) = http_requests(workload.samples(1))
            begun_s = in_flight[number] = time.perf_counter()
            said = orjson.loads(await call(request))
            ended_s = time.perf_counter()
            del in_flight[number]
            forward_ms = said["timings"]["forward_ns"] / 1e6
            answers.append(Answer(begun_s, ended_s, forward_ms, said["fingerprint"]))

    async def swap(admin: AsyncRewardClient, other: str) -> None:
        while len(answers) < WARM_UP:
            await asyncio.sleep(0.1)
        answers.clear()
        for number in range(swaps):
            await asyncio.sleep(PERIOD_S)
            began_s = time.perf_counter()
            await (admin.rollback_soup() if number % 2 else admin.activate_soup(other))
            ended_s = time.perf_counter()
            while any(begun_s < ended_s for begun_s in in_flight.values()):
                await asyncio.sleep(0.005)
            swapped.append((began_s, time.perf_counter()))
        await asyncio.sleep(PERIOD_S)
        done.set()

    async with (
        AsyncRewardClient(server.url, api_key=ADMIN, timeout_s=120) as admin,
        callers.http(server.http_port) as call,
    ):
        ingredients = (await admin.model()).ingredients
        others = 0.5 / (len(ingredients) - 1)
        shares = {one.name: others if place else 0.5 for place, one in enumerate(ingredients)}
        other = await admin.create_soup(shares)
        while other.state is SoupState.FORMING:
            await asyncio.sleep(0.1)
            soups = (await admin.soups()).soups
            other = next(one for one in soups if one.fingerprint == other.fingerprint)
        await asyncio.gather(
            swap(admin, other.fingerprint), *(ask(number, call) for number in range(clients))
        )
    return answers, swapped


if __name__ == "__main__":
    sys.exit(main())
