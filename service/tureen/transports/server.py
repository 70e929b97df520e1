"""The process: both doors in one loop, open early, ready when the model is, drained before it ends.

ports open      /healthz answers, /readyz says 503, scoring is `overloaded` with a time to wait
model checked   ready
SIGTERM/SIGINT  not ready; nothing new is admitted, all that was admitted is answered; exit 0
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc.aio
import uvicorn

from tureen._version import __version__
from tureen.config import Config, flag
from tureen.engine.background import busy, in_background
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.engine.soup_store import SoupStore
from tureen.transports import logs
from tureen.transports.admission import Admission
from tureen.transports.grpc import Health, create_server
from tureen.transports.http import create_app
from tureen.transports.http_protocol import protocol_of
from tureen.transports.logs import say
from tureen.transports.soup_source import source_of, started
from tureen.transports.tls import Tls, tls_of
from tureen.transports.tracing import tracing_of
from tureen.usage import UsageError

HEALTH_PERIOD_S = 0.25  # how late a watcher of health may hear of a change
KEEP_ALIVE_S = 75  # longer than clients keep an idle connection: they close it, not we
FLUSH_S = 1.0  # for the last bytes of answers that are made

log = logging.getLogger("tureen")


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; the exit status: 0 when all that was admitted was answered.

    Raises UsageError when a port or a key cannot be had, and whatever loading the model raises.
    """
    logs.configure(config)
    # Texts are tokenised one by one: a pool of threads for each would only be woken in vain.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        status = runner.run(serve(config))
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
    told_to_leave = _leave_on_signal()
    await doors.open()
    loading = asyncio.create_task(_load(config, admission))
    try:
        say(f"listening on {doors.addresses}; loading {config.model}")
        leaving = asyncio.create_task(told_to_leave.wait())
        await asyncio.wait((loading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return 0
        scorer = loading.result()
        ready, reason = admission.ready()
        if ready:
            say(*_card(admission, scorer, doors))
            say(f"ready after {time.monotonic() - started:.1f} s on {doors.addresses}")
        else:
            say(f"NOT READY, and nothing will be scored: {reason}")
        await leaving
        return await _drain(config, admission, scorer, doors)
    finally:
        loading.cancel()
        await doors.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


class Doors:
    """Both listeners. `http_port` and `grpc_port` are the real ones, whatever was asked for."""

    def __init__(self, config: Config, admission: Admission) -> None:
        """Takes the ports; raises UsageError when one cannot be had."""
        self.host, self._tls = config.host, tls_of(config)
        self._socket = _listen(config.host, config.http_port, "http_port")
        self.http_port: int = self._socket.getsockname()[1]
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
                **(self._tls.for_uvicorn() if self._tls is not None else {}),
            )
        )
        self._grpc, self.health = create_server(admission)
        self.grpc_port = _listen_grpc(self._grpc, config, self._tls)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def addresses(self) -> str:
        scheme = "grpc" if self._tls is None else "grpcs"
        return f"{self.url} and {scheme}://{_bracketed(self.host)}:{self.grpc_port}"

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{_bracketed(self.host)}:{self.http_port}"

    async def open(self) -> None:
        await self.health.refresh()
        await self._grpc.start()
        self._tasks = [
            asyncio.create_task(self._http.serve(sockets=[self._socket])),
            asyncio.create_task(_watch(self.health)),
        ]

    async def close(self) -> None:
        """Lets go of the ports after the answers that are made have left."""
        self._http.should_exit = True
        serving, watching = self._tasks
        watching.cancel()
        await asyncio.gather(serving, self._grpc.stop(FLUSH_S))


async def _load(config: Config, admission: Admission) -> Scorer:
    """Loads and checks the model while the doors answer; admits requests when it is done."""
    source = await in_background(source_of, config)
    store, records = None, None
    if source.origin is not None:
        store = SoupStore(config.state_dir, source.origin.fingerprint)
        records = await in_background(store.read)
    scorer, soups = await started(config, source, admission.metrics, records, store)
    admission.open(scorer, soups)
    return scorer


async def _drain(config: Config, admission: Admission, scorer: Scorer, doors: Doors) -> int:
    say(f"leaving: nothing new is admitted, the rest is answered within {config.drain_s:g} s")
    admission.close("the server is leaving")
    await doors.health.refresh()
    until = time.monotonic() + config.drain_s
    with suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + config.drain_s):
            await admission.drained()
    left = admission.in_flight
    await scorer.stop(max(0.0, until - time.monotonic()))
    say(f"left {left} requests unanswered" if left else "everything admitted was answered")
    return 1 if left else 0


async def _watch(health: Health) -> None:
    while True:
        await health.refresh()
        await asyncio.sleep(HEALTH_PERIOD_S)


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: the process has two doors, and one way to leave."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _leave_on_signal() -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def _listen(host: str, port: int, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {_bracketed(host)}:{port} ({reason}). Choose another port with "
            f"{flag(setting)} (0 takes a free one) or another --host."
        ) from None


def _listen_grpc(server: grpc.aio.Server, config: Config, tls: Tls | None) -> int:
    # gRPC says why it cannot bind only in its own log: a plain socket asks first.
    if config.grpc_port:
        _listen(config.host, config.grpc_port, "grpc_port").close()
    address = f"{_bracketed(config.host)}:{config.grpc_port}"
    if tls is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, tls.for_grpc())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _loop_factory():
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _card(admission: Admission, scorer: Scorer, doors: Doors) -> Iterator[str]:
    info = scorer.model()
    heads = ", ".join(f"{head.name} ({head.granularity})" for head in info.heads)
    open_ = admission.open_to_strangers
    keys = "none: whoever reaches the port may score" if open_ else "needed to score"
    body = '{"samples":[{"prompt":"What is 2+2?","responses":["4","5"]}]}'
    key = "" if open_ else " -H 'Authorization: Bearer KEY'"
    yield f"Tureen {__version__}"
    yield f"  model    {info.id}, {info.soup}, {info.members} members, {info.fingerprint[:19]}"
    yield f"  heads    {heads}"
    yield f"  backend  {info.backend} {info.dtype} on {info.device}"
    yield f"  keys     {keys}"
    yield f"  docs     {doors.url}/docs"
    yield f"  try      curl {doors.url}/v1/score{key} -d '{body}'"
