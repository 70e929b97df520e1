"""The process that was started: holds the ports, starts the others, starts anew what dies.

A child reads what it is to do from its stdin, and leaves when that ends: with the supervisor, whatever
ends it, go all of them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tureen.config import Config
from tureen.frontends.children import DeviceWork, FrontWork, Work, packed
from tureen.frontends.front import OPEN
from tureen.frontends.link import Link
from tureen.frontends.messages import Failed, News
from tureen.transports.keys import Keys
from tureen.transports.logs import say
from tureen.transports.server import ALL_ANSWERED, LEAVING, Ports, card, leave_on_signal

_READ_BYTES = 2**16
RESPAWN_S = 1.0  # between two starts of a child that dies at once
LEAVE_S = 10.0  # beyond drain_s, until a child is killed


async def supervise(config: Config) -> int:
    """Until SIGTERM or SIGINT; 0 when all that was admitted was answered.

    Raises:
        UsageError: a port or a key cannot be had. And whatever loading the model raises.
    """
    started_s = time.monotonic()
    strangers = Keys(config).open_to_strangers
    ports = Ports.taken(config)
    told_to_leave = leave_on_signal()
    with tempfile.TemporaryDirectory(prefix="tureen-") as folder, ports.keep_grpc():
        place = Path(folder) / "device"
        with socket.socket(socket.AF_UNIX) as meeting:
            meeting.bind(str(place))
            meeting.listen()
            device = Child("device", DeviceWork(config, meeting.fileno()))
            doors = FrontWork(config, ports.socket.fileno(), ports.grpc, place)
            fronts = [Child(f"front-end-{n}", doors) for n in range(1, config.front_ends + 1)]
            say(f"listening on {ports.addresses}; loading {config.models}")
            news = asyncio.create_task(_when_open(fronts, place))
            leaving = asyncio.create_task(told_to_leave.wait())
            try:
                await asyncio.wait((news, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not leaving.done():
                    first = news.result()
                    if first.models is not None and first.trouble is None:
                        say(*card(first.models, ports, strangers=strangers))
                        took_s = time.monotonic() - started_s
                        say(f"ready after {took_s:.1f} s on {ports.addresses}")
                    else:
                        say(f"NOT READY, and nothing will be scored: {first.trouble}")
                    await leaving
                say(LEAVING.format(config.drain_s))
            finally:
                news.cancel()
                until_s = config.drain_s + LEAVE_S
                left = [*await asyncio.gather(*(one.leave(until_s) for one in fronts))]
                left.append(await device.leave(until_s))
    say("some requests were left unanswered" if any(left) else ALL_ANSWERED)
    return max(left)


async def _when_open(fronts: Sequence[Child], place: Path) -> News:
    """`first_news`, when every front end takes callers."""
    first = await first_news(place)
    await asyncio.gather(*(one.opened.wait() for one in fronts))
    return first


async def first_news(place: Path) -> News:
    """Of a model that is loaded, or of the server's trouble with it.

    Raises what loading raised.
    """
    found: asyncio.Future[News] = asyncio.get_running_loop().create_future()

    async def nothing_is_asked(what: object) -> object:
        raise TypeError(f"nobody asks the supervisor, and it was asked for {what}")

    def hear(link: Link, said: object) -> None:
        if found.done():
            return
        if isinstance(said, Failed):
            found.set_exception(said.error)
        elif isinstance(said, News) and said.models is not None:
            found.set_result(said)

    loop = asyncio.get_running_loop()
    while True:
        _, link = await loop.create_unix_connection(
            lambda: Link(nothing_is_asked, hear, lambda _: None), str(place)
        )
        try:
            await asyncio.wait((found, link.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.close()
        if found.done():
            return found.result()
        await asyncio.sleep(RESPAWN_S)  # it died while it loaded; another one follows


class Child:
    """A process that is started anew whenever it ends, until it is to leave."""

    def __init__(self, name: str, work: Work) -> None:
        self._name, self._work = name, work
        self._process: asyncio.subprocess.Process | None = None
        self._leaving = False
        self._status = 0
        self.opened = asyncio.Event()  # callers can come, first of all
        self._living = asyncio.create_task(self._live())

    async def leave(self, within_s: float) -> int:
        """Lets it leave; its status, 1 when it had to be killed."""
        self._leaving = True
        if self._process is None:
            self._living.cancel()
            return 0
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(within_s):
                await self._living
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            return 1
        return self._status

    async def _live(self) -> None:
        while not self._leaving:
            started_s = time.monotonic()
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "tureen.frontends.children", self._name),  # for lists of processes
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    pass_fds=self._work.descriptors,
                    start_new_session=True,  # Ctrl-C is for the supervisor
                )
            except OSError as error:  # no memory or no process to be had now
                say(f"{self._name} cannot be started ({error.strerror}); it is tried again")
                await asyncio.sleep(RESPAWN_S)
                continue
            assert process.stdin is not None
            process.stdin.write(packed(self._work))
            if self._leaving:  # was told so while there was no process to tell
                process.stdin.close()
            assert process.stdout is not None
            while said := await process.stdout.read(_READ_BYTES):
                if OPEN.encode() in said:
                    self.opened.set()
            status = await process.wait()
            if self._leaving:
                self._status = int(status != 0)
                return
            say(f"{self._name} ended with status {status}; another one is started")
            await asyncio.sleep(max(0.0, RESPAWN_S - (time.monotonic() - started_s)))
