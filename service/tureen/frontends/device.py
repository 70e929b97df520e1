"""The device process: the engine of `tureen serve`, asked by front ends instead of doors."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
from contextlib import suppress
from typing import Any

from tureen.config import Config
from tureen.engine import remote
from tureen.engine.metrics import Metrics
from tureen.engine.remote import Asked
from tureen.engine.scorer import Scorer
from tureen.errors import TureenError
from tureen.frontends.link import Link, LinkLost
from tureen.frontends.messages import (
    Change,
    Counts,
    Failed,
    News,
    Tokenizers,
    Written,
    written,
)
from tureen.transports.admission import Admission
from tureen.transports.server import HEALTH_PERIOD_S, load

RELOAD_S = 5.0  # after loading failed, until it is tried again

log = logging.getLogger("tureen")


async def serve(config: Config, listening: socket.socket, told_to_leave: asyncio.Event) -> int:
    """Until it is told to leave; 0 when all that was admitted was answered.

    What cannot be loaded ends a server that is being started. Where it had been, and this process
    takes the place of one that died, this one ends too: the next may find what was missing.
    """
    device = Device(config)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(device.link, sock=listening)
    loading = asyncio.create_task(load(config, device.admission))
    watching = asyncio.create_task(device.watch())
    leaving = asyncio.create_task(told_to_leave.wait())
    try:
        await asyncio.wait((loading, leaving), return_when=asyncio.FIRST_COMPLETED)
        scorer: Scorer | None = None
        if loading.done():
            try:
                scorer = loading.result()
            except Exception as error:
                device.tell(Failed(_portable(error)))
                await asyncio.wait((leaving,), timeout=RELOAD_S)
                if not leaving.done():
                    log.error("loading failed; another process tries again", exc_info=error)
                    return 1
            else:
                device.hand_out(tokenizers_of(scorer))
            await leaving
        return await device.drain(scorer)
    finally:
        for task in (loading, watching, leaving):
            task.cancel()
        server.close()


class Device:
    """What front ends may ask."""

    def __init__(self, config: Config) -> None:
        self.admission = Admission(config, Metrics())
        self._drain_s = config.drain_s
        self._links: set[Link] = set()
        self._said: News | Failed | None = None  # to each that comes, too
        self._tokenizers: Tokenizers | None = None

    def link(self) -> Link:
        """For a front end that comes."""
        return Link(self._answer, self._hear, self._welcome)

    def tell(self, what: News | Failed) -> None:
        """All of them."""
        self._said = what
        for one in self._links:
            self._tell(one, what)

    def hand_out(self, tokenizers: Tokenizers) -> None:
        """To all of them, and to each that comes."""
        self._tokenizers = tokenizers
        for one in self._links:
            self._tell(one, tokenizers)

    async def watch(self) -> None:
        """Tells of every change."""
        while True:
            self._tell_news()
            await asyncio.sleep(HEALTH_PERIOD_S)

    async def drain(self, scorer: Scorer | None) -> int:
        """The front ends have left before, with their answers."""
        self.admission.close("the server is leaving")
        if scorer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_s):
                    await self.admission.drained()
            left = self.admission.in_flight
            await scorer.stop(0)
            return 1 if left else 0
        return 0

    def _welcome(self, link: Link) -> None:
        self._links.add(link)
        link.lost.add_done_callback(lambda _: self._links.discard(link))
        for what in (self._said, self._tokenizers):
            if what is not None:
                self._tell(link, what)

    def _tell_news(self) -> None:
        if isinstance(self._said, Failed):
            return
        ready, reason = self.admission.ready()
        with suppress(TureenError):
            models = self.admission.scorer().models()
            self._tell_if_new(News(models, None if ready else reason))
            return
        self._tell_if_new(News(None, reason))

    def _tell_if_new(self, news: News) -> None:
        if news != self._said:
            self.tell(news)

    async def _answer(self, what: Any) -> object:
        if isinstance(what, Asked):
            return await self._scored(what)
        if isinstance(what, Change):
            soups: Any = self.admission.soups(what.model)
            try:
                return await getattr(soups, what.method)(*what.arguments)
            finally:
                self._tell_news()  # before the answer
        return self.admission.metrics.render()

    async def _scored(self, asked: Asked) -> Written | TureenError:
        with self.admission.admitted() as scorer:
            assert isinstance(scorer, Scorer)
            if asked.caller is not None:
                asked.caller.quota = self.admission.quota(asked.caller.client)
            return written(await remote.answer(scorer, asked))

    def _hear(self, link: Link, counts: Counts) -> None:
        for name, arguments in counts.calls:
            getattr(self.admission.metrics, name)(*arguments)

    @staticmethod
    def _tell(link: Link, what: object) -> None:
        with suppress(LinkLost):
            link.tell(what)


def tokenizers_of(scorer: Scorer) -> Tokenizers:
    return Tokenizers(pickle.dumps(scorer.tokenizers(), pickle.HIGHEST_PROTOCOL))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
