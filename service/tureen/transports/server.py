"""The process: both doors in one loop, open early, ready when the model is, drained before it ends.

ports open      /healthz answers, /readyz says 503, scoring is `overloaded` with a time to wait
model checked   ready
SIGTERM/SIGINT  not ready; nothing new is admitted, all that was admitted is answered; exit 0
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc.aio
import uvicorn

from tureen._version import __version__
from tureen.config import Config, flag
from tureen.contracts import ModelList
from tureen.engine.background import busy, in_background
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.transports import logs
from tureen.transports.admission import Admission
from tureen.transports.grpc import Health, create_server
from tureen.transports.http import create_app
from tureen.transports.http_protocol import protocol_of
from tureen.transports.logs import say
from tureen.transports.openapi import EXAMPLE_SAMPLE
from tureen.transports.soup_source import ordered, started
from tureen.transports.tls import tls_of
from tureen.transports.tracing import tracing_of
from tureen.usage import UsageError

HEALTH_PERIOD_S = 0.25  # how late a watcher of health may hear of a change
KEEP_ALIVE_S = 75  # longer than clients keep an idle connection: they close it, not we
FLUSH_S = 1.0  # for the last bytes of answers that are made
LEAVING = "leaving: nothing new is admitted, the rest is answered within {:g} s"
ALL_ANSWERED = "everything admitted was answered"

log = logging.getLogger("tureen")


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; the exit status: 0 when all that was admitted was answered.

    Raises UsageError when a port or a key cannot be had, and whatever loading the model raises.
    """
    return in_loop(config, serve(config))


def in_loop(config: Config, serving: Coroutine[Any, Any, int]) -> int:
    """Runs what serves, to its end, as the whole work of this process; its status."""
    logs.configure(config)
    # Texts are tokenised one by one: a pool of threads for each would only be woken in vain.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        status = runner.run(serving)
    if busy():  # told to leave in the middle of loading, which may be deep inside a library
        sys.stderr.flush()
        os._exit(status)  # the ordinary end would wait for it, or abort under its feet
    return status


async def serve(config: Config) -> int:
    """`run`, inside a running loop of the main thread."""
    started = time.monotonic()
    tracing = tracing_of(config)
    admission = Admission(config, Metrics(), tracing)
    doors = Doors(config, admission)
    told_to_leave = leave_on_signal()
    await doors.open()
    loading = asyncio.create_task(load(config, admission))
    try:
        say(f"listening on {doors.addresses}; loading {config.models}")
        leaving = asyncio.create_task(told_to_leave.wait())
        await asyncio.wait((loading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return 0
        scorer = loading.result()
        ready, reason = admission.ready()
        if ready:
            say(*card(scorer.models(), doors.ports, strangers=admission.open_to_strangers))
            say(f"ready after {time.monotonic() - started:.1f} s on {doors.addresses}")
        else:
            say(f"NOT READY, and nothing will be scored: {reason}")
        await leaving
        say(LEAVING.format(config.drain_s))
        until = time.monotonic() + config.drain_s
        left = await drained(config, admission, doors)
        await scorer.stop(max(0.0, until - time.monotonic()))
        say(f"left {left} requests unanswered" if left else ALL_ANSWERED)
        return 1 if left else 0
    finally:
        loading.cancel()
        await doors.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


class Ports:
    """Where the doors are, and what they are opened with. http, grpc: the real port numbers.

    Args:
        listening: the socket of HTTP.
        shared: several processes open their doors here. gRPC takes no socket; it listens anew in
            each, at the same port.
    Raises:
        UsageError: what TLS needs cannot be had.
    """

    def __init__(
        self, config: Config, listening: socket.socket, grpc_port: int, *, shared: bool = False
    ) -> None:
        self.socket, self.grpc, self.shared = listening, grpc_port, shared
        self.http: int = listening.getsockname()[1]
        self._host, self._tls = config.host, tls_of(config)

    @classmethod
    def taken(cls, config: Config) -> Ports:
        """Raises UsageError when one cannot be had."""
        listening = _listen(config.host, config.http_port, "http_port")
        if config.grpc_port:  # gRPC says why it cannot bind only in its own log
            _listen(config.host, config.grpc_port, "grpc_port").close()
        return cls(config, listening, config.grpc_port)

    def keep_grpc(self) -> socket.socket:
        """The port of gRPC, for processes that listen there; a free one where it was 0."""
        kept = socket.socket(_family(self._host))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((self._host, self.grpc))
        self.grpc = kept.getsockname()[1]
        return kept

    def listen_grpc(self, server: grpc.aio.Server) -> None:
        address = f"{_bracketed(self._host)}:{self.grpc}"
        if self._tls is None:
            self.grpc = server.add_insecure_port(address)
        else:
            self.grpc = server.add_secure_port(address, self._tls.for_grpc())

    @property
    def for_uvicorn(self) -> dict[str, Any]:
        return self._tls.for_uvicorn() if self._tls is not None else {}

    @property
    def addresses(self) -> str:
        scheme = "grpc" if self._tls is None else "grpcs"
        return f"{self.url} and {scheme}://{_bracketed(self._host)}:{self.grpc}"

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{_bracketed(self._host)}:{self.http}"


class Doors:
    """Both listeners. `http_port` and `grpc_port` are the real ones, whatever was asked for."""

    def __init__(self, config: Config, admission: Admission, ports: Ports | None = None) -> None:
        """ports: of its own when None; raises UsageError when one cannot be had."""
        self.ports = ports if ports is not None else Ports.taken(config)
        self._http = _Http(
            uvicorn.Config(
                create_app(admission),
                http=protocol_of(config),
                ws="none",  # whatever is installed
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(FLUSH_S)),
                **self.ports.for_uvicorn,
            )
        )
        self._grpc, self.health = create_server(admission, shared_port=self.ports.shared)
        self.ports.listen_grpc(self._grpc)
        self.http_port, self.grpc_port = self.ports.http, self.ports.grpc
        self.addresses = self.ports.addresses
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self.health.refresh()
        await self._grpc.start()
        self._tasks = [
            asyncio.create_task(self._http.serve(sockets=[self.ports.socket])),
            asyncio.create_task(_watch(self.health)),
        ]

    async def close(self) -> None:
        """Lets go of the ports after the answers that are made have left."""
        self._http.should_exit = True
        serving, watching = self._tasks
        watching.cancel()
        await asyncio.gather(serving, self._grpc.stop(FLUSH_S))


async def load(config: Config, admission: Admission) -> Scorer:
    """Loads and checks the models while the doors answer; admits requests when all are there."""
    models = await in_background(ordered, config)
    scorer, soups = await started(config, models, admission.metrics)
    admission.open(scorer, soups.__getitem__)
    return scorer


async def drained(config: Config, admission: Admission, doors: Doors) -> int:
    """Admits nothing more and waits for what was admitted; how many are left after drain_s."""
    admission.close("the server is leaving")
    await doors.health.refresh()
    with suppress(TimeoutError):
        async with asyncio.timeout(config.drain_s):
            await admission.drained()
    return admission.in_flight


async def _watch(health: Health) -> None:
    while True:
        await health.refresh()
        await asyncio.sleep(HEALTH_PERIOD_S)


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: the process has two doors, and one way to leave."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def leave_on_signal() -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {_bracketed(host)}:{port} ({reason}). Choose another port with "
            f"{flag(setting)} (0 takes a free one) or another --host."
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _loop_factory():
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def card(served: ModelList, ports: Ports, *, strangers: bool) -> Iterator[str]:
    """What is served, for the log. strangers: who has no key may score."""
    keys = "none: whoever reaches the port may score" if strangers else "needed to score"
    body = json.dumps({"samples": [EXAMPLE_SAMPLE]})
    key = "" if strangers else " -H 'Authorization: Bearer KEY'"
    yield f"Tureen {__version__}"
    for info in served.models:
        heads = ", ".join(f"{head.name} ({head.granularity})" for head in info.heads)
        several = len(served.models) > 1
        default = ", the default" if several and info.id == served.default_model else ""
        members = f"{info.members} member{'s' * (info.members != 1)}"
        said = f"{info.soup}, {members}, {info.fingerprint[:19]}"
        yield f"  model    {info.id}{default}, {said}"
        yield f"  heads    {heads}"
        yield f"  backend  {info.backend} {info.dtype} on {info.device}"
    yield f"  keys     {keys}"
    yield f"  docs     {ports.url}/docs"
    yield f"  try      curl {ports.url}/v1/score{key} -d '{body}'"
