"""Both doors open in this process, over a stub whose device can be held back: for tests of the doors.

`server_process` starts the real command instead; here a test reaches into the server.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import httpx2
import pytest
from engine_fakes import PATIENCE_S, Gated
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families
from server_process import Loopback

from tureen.config import Config
from tureen.engine.loaded_soups import SoupSource
from tureen.engine.loading import load_model
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.engine.scoring import Scoring, SoupsOf
from tureen.engine.served import ServedModel
from tureen.engine.soups import Soups
from tureen.transports.admission import Admission
from tureen.transports.server import Doors
from tureen.v1 import reward_pb2

SERVICE = "/tureen.v1.RewardService/"


@dataclass
class OpenDoors(Loopback):
    """loop: where the server lives."""

    gate: Gated
    scorer: Scorer
    soups: SoupsOf
    admission: Admission
    loop: asyncio.AbstractEventLoop

    def call(self, coroutine: Any) -> Any:
        """Runs something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def counts(self) -> Counts:
        return Counts.parse(self.admission.metrics.render().decode())

    def in_flight(self) -> float:
        return self.counts().samples["tureen_in_flight_responses"]


@dataclass
class Counts:
    """Requests by (door, route, code) and errors by code, so far."""

    requests: dict[tuple[str, str, str], float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    samples: dict[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Counts:
        found = cls()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "tureen_requests_total":
                    key = (labels["door"], labels["route"], labels["code"])
                    found.requests[key] = sample.value
                elif sample.name == "tureen_errors_total":
                    found.errors[labels["code"]] = sample.value
                elif not labels:
                    found.samples[sample.name] = sample.value
        return found

    def since(self, before: Counts) -> tuple[dict[tuple[str, str, str], float], dict[str, float]]:
        """What was counted after `before`; what did not move is left out."""
        return _growth(before.requests, self.requests), _growth(before.errors, self.errors)


def _growth(before: dict, after: dict) -> dict:
    return {key: n - before.get(key, 0) for key, n in after.items() if n != before.get(key, 0)}


@contextmanager
def open_doors(
    model: ServedModel | None = None,
    source: SoupSource | None = None,
    behind: Callable[[Scorer], Scoring] = lambda scorer: scorer,
    **settings: Any,
) -> Iterator[OpenDoors]:
    """A server in a thread of its own, ready; `settings` are those of Config.

    behind: what the doors ask, instead of the scorer itself.
    """
    served = model if model is not None else load_model("stub")
    soups_of = source if source is not None else SoupSource(None, lambda _: served)
    gate = Gated(served.backend)
    config = Config(http_port=0, grpc_port=0, **settings)
    started: Future[OpenDoors] = Future()
    leave = asyncio.Event()

    async def live() -> None:
        admission = Admission(config, Metrics())
        doors = Doors(config, admission)
        scorer = Scorer(
            [replace(served, backend=gate)], limits=config.limits(), metrics=admission.metrics
        )
        await scorer.start()
        soups = {served.model_id: Soups(scorer, soups_of, scorer.serving())}.__getitem__
        admission.open(behind(scorer), soups)
        await doors.open()
        gate.rows = 0  # those of the start-up check
        loop = asyncio.get_running_loop()
        started.set_result(
            OpenDoors(doors.http_port, doors.grpc_port, gate, scorer, soups, admission, loop)
        )
        await leave.wait()
        await doors.close()
        await scorer.stop(0)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="doors")
    thread.start()
    opened = started.result(PATIENCE_S)
    try:
        yield opened
    finally:
        gate.open()
        opened.loop.call_soon_threadsafe(leave.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@dataclass
class Refusal:
    """What came instead of an answer: the same at both doors."""

    status: int | grpc.StatusCode
    code: str
    message: str
    field: str | None
    retry_after_s: float | None
    headers: dict[str, str]


class RawGrpc:
    """Sends bytes as they are, so that a test may send what no client would."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def method(self, name: str, stream: bool = False) -> Any:
        make = self.channel.stream_stream if stream else self.channel.unary_unary
        return make(SERVICE + name, None, None)

    def refusal(self, name: str, message: bytes, **settings: Any) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            self.method(name)(message, **settings)
        return refusal_of(caught.value)


def refusal_of(error: Any) -> Refusal:
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = reward_pb2.Error()
    [packed] = [one for one in status.details if one.Is(reward_pb2.Error.DESCRIPTOR)]
    packed.Unpack(info)
    return Refusal(
        status=error.code(),
        code=info.code,
        message=info.message,
        field=info.field if info.HasField("field") else None,
        retry_after_s=info.retry_after_s if info.HasField("retry_after_s") else None,
        headers={},
    )


def http_refusal(response: httpx2.Response) -> Refusal:
    error = response.json()["error"]
    return Refusal(
        status=response.status_code,
        code=error["code"],
        message=error["message"],
        field=error["field"],
        retry_after_s=error["retry_after_s"],
        headers=dict(response.headers),
    )
