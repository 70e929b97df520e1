"""A front end: both doors, over the engine of the device process."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tureen.config import Config
from tureen.contracts import SoupInfo, SoupList
from tureen.engine.caller import ANONYMOUS, CALLER
from tureen.engine.metrics import Metrics
from tureen.engine.remote import Answer, Asked, RemoteScorer
from tureen.engine.scoring import SoupKeeping
from tureen.engine.tokenizing import SampleTokenizer, TokenizedSample
from tureen.errors import Overloaded, QuotaExceeded, TureenError
from tureen.frontends.link import Link, LinkLost
from tureen.frontends.messages import Change, Counts, Exposition, News, Tokenizers, read
from tureen.transports.admission import RETRY_AFTER_S, Admission
from tureen.transports.server import Doors, Ports, drained
from tureen.transports.tracing import tracing_of

OPEN = "open"  # is written to stdout when callers can come
RECONNECT_S = 0.25  # after the device process was not there
GONE = "the device process ended, and another one is on its way"

Ask = Callable[[object], Awaitable[Any]]
"""The device process; raises Overloaded where there is none."""


async def serve(config: Config, ports: Ports, device: Path, told_to_leave: asyncio.Event) -> int:
    """Until it is told to leave; 0 when all that was admitted was answered.

    Args:
        device: the socket of the device process.
    """
    share = max(1, config.max_connections // config.front_ends)
    front = Front(config.model_copy(update={"max_connections": share}))
    doors = Doors(front.config, front.admission, ports)
    await doors.open()
    print(OPEN, flush=True)  # noqa: T201 to the supervisor
    connecting = asyncio.create_task(front.stay_connected(device))
    try:
        await told_to_leave.wait()
        return 1 if await drained(config, front.admission, doors) else 0
    finally:
        connecting.cancel()
        await doors.close()
        front.close()
        if front.admission.tracing is not None:
            await asyncio.to_thread(front.admission.tracing.close)


class Front:
    """The link to the device process, and what the doors are told of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        metrics = ForwardedMetrics(self._count)
        self.admission = FrontAdmission(config, metrics, self.ask)
        self._scorer = RemoteScorer(self._score, config.limits(), metrics)
        self._link: Link | None = None  # once it said what it has
        self._tokenizers: dict[str, SampleTokenizer] = {}  # of the models behind that link
        self._refused: set[str] = set()  # clients whose latest request was not let in: their next
        # one is not tokenised before it is
        self._unpacking: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(config.tokenization_workers, "tureen-tokenize")
        self._trouble: str | None = f"{config.models} is being loaded"

    async def stay_connected(self, device: Path) -> None:
        """For good; the supervisor holds the socket, so that a new device process finds who waits."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                _, link = await loop.create_unix_connection(
                    lambda: Link(_nothing_is_asked, self._hear, lambda _: None), str(device)
                )
                await link.lost
                if self._link is not None:
                    self._link, self._tokenizers = None, {}
                    self._learn(News(None, GONE))
            await asyncio.sleep(RECONNECT_S)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._link is not None:
            self._link.close()

    async def ask(self, what: object) -> Any:
        """
        Raises:
            Overloaded: there is no device process, or it went away. And what it raises.
        """
        if self._link is None:
            raise self._absent()
        try:
            return await self._link.call(what)
        except LinkLost:
            raise self._absent() from None

    async def _score(self, asked: Asked) -> Answer:
        started_ns = time.monotonic_ns()
        client = asked.caller.client if asked.caller is not None else ANONYMOUS
        if client not in self._refused:
            asked = await self._tokenized(asked)
        if asked.left_ns is not None:
            asked = replace(asked, left_ns=asked.left_ns - (time.monotonic_ns() - started_ns))
        try:
            answered = read(await self.ask(asked))
        except (Overloaded, QuotaExceeded):
            self._refused.add(client)
            raise
        self._refused.discard(client)
        return answered

    async def _tokenized(self, asked: Asked) -> Asked:
        """As it was, where the time is over first: the device process says so."""
        tokenizer = self._tokenizers.get(asked.request.model or self._scorer.models().default_model)
        if tokenizer is None:
            return asked
        link, left_s = self._link, None if asked.left_ns is None else asked.left_ns / 1e9
        plan, truncate = tokenizer.plan(asked.request), asked.request.truncate
        found: list[TokenizedSample | TureenError] = []
        tokenize_ns = 0
        try:
            async with asyncio.timeout(left_s):
                chunks = tokenizer.in_chunks(
                    *(asked.samples, plan, truncate, self._threads),
                    alone=self.admission.in_flight == 1,
                )
                async for some, took_ns in chunks:
                    found += some
                    tokenize_ns += took_ns
        except TimeoutError:
            return asked
        if self._link is not link:  # another device process may have loaded something else
            return asked
        return replace(asked, tokenized=(found, tokenize_ns))

    def _hear(self, link: Link, said: object) -> None:
        if isinstance(said, News):
            self._link = link
            self._learn(said)
        elif isinstance(said, Tokenizers):
            self._unpacking = asyncio.create_task(self._unpack(link, said))

    async def _unpack(self, link: Link, tokenizers: Tokenizers) -> None:
        found = await asyncio.to_thread(pickle.loads, tokenizers.pickled)
        if self._link is link:
            self._tokenizers = found

    def _learn(self, news: News) -> None:
        self._trouble = news.trouble
        self._scorer.learn(news.models, news.trouble)
        if news.models is not None and not self.admission.leaving:
            self.admission.open(self._scorer, lambda model: FrontSoups(self.ask, model))

    def _count(self, counts: Counts) -> None:
        if self._link is not None:
            with suppress(LinkLost):
                self._link.tell(counts)

    def _absent(self) -> Overloaded:
        return Overloaded(
            f"Not answering now: {self._trouble or GONE}. Come back in {RETRY_AFTER_S:g} s.",
            retry_after_s=RETRY_AFTER_S,
        )


class FrontSoups(SoupKeeping):
    """Those that the device process keeps of one model."""

    def __init__(self, ask: Ask, model: str) -> None:
        self._ask, self._model = ask, model

    async def list(self) -> SoupList:
        return await self._ask(Change(self._model, "list"))

    async def create(self, coefficients: Mapping[str, float], by: str) -> SoupInfo:
        return await self._ask(Change(self._model, "create", (dict(coefficients), by)))

    async def activate(self, fingerprint: str, by: str) -> SoupInfo:
        return await self._ask(Change(self._model, "activate", (fingerprint, by)))

    async def rollback(self, fingerprint: str | None, by: str) -> SoupInfo:
        return await self._ask(Change(self._model, "rollback", (fingerprint, by)))

    async def shadow(self, fingerprint: str, by: str) -> SoupInfo:
        return await self._ask(Change(self._model, "shadow", (fingerprint, by)))


class FrontAdmission(Admission):
    """Quotas are kept where all front ends meet, and so are metrics."""

    def __init__(self, config: Config, metrics: Metrics, ask: Ask) -> None:
        super().__init__(config, metrics, tracing_of(config))
        self._ask = ask

    def authenticate(self, authorization: str | None, *, admin: bool = False) -> None:
        super().authenticate(authorization, admin=admin)
        if (caller := CALLER.get()) is not None:
            caller.quota = None

    async def exposition(self) -> bytes:
        """Raises Overloaded while there is no device process."""
        return await self._ask(Exposition())


class ForwardedMetrics(Metrics):
    """What a door counts is counted by the device process."""

    def __init__(self, forward: Callable[[Counts], None]) -> None:
        super().__init__()
        self._forward = forward
        self._calls: list[tuple[str, tuple[object, ...]]] = []

    def request(self, door: str, route: str, code: str, seconds: float) -> None:
        self._add("request", door, route, code, seconds)

    def error(self, code: str) -> None:
        self._add("error", code)

    def other_name(self, route: str) -> None:
        self._add("other_name", route)

    def _add(self, name: str, *arguments: object) -> None:
        if not self._calls:
            asyncio.get_running_loop().call_soon(self._send)  # all of a turn of the loop
        self._calls.append((name, arguments))

    def _send(self) -> None:
        calls, self._calls = self._calls, []
        self._forward(Counts(calls))


async def _nothing_is_asked(what: object) -> object:
    raise TypeError(f"the device process asks for nothing, and asked for {what}")
