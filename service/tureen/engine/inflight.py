"""Who waits for which window: identical work is done once, and work nobody waits for is not done.

Everything here runs on the event loop, but `deliver`, which the device thread calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tureen.contracts import Priority
from tureen.engine.cache import ValueCache
from tureen.engine.model_metrics import ModelMetrics
from tureen.engine.queue import Entry
from tureen.errors import DeadlineExceeded

if TYPE_CHECKING:
    from tureen.engine.worker import Worker
    from tureen.text.encoding import Window


class Ticket:
    """One request's wait for all of its entries, some of which it may share."""

    __slots__ = ("deadline_ns", "entries", "lane", "missing", "ready")

    def __init__(self, lane: Priority, deadline_ns: int | None) -> None:
        self.lane = lane
        self.deadline_ns = deadline_ns
        self.entries: list[Entry] = []
        self.missing = 0
        self.ready: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until no entry is missing."""
        if not self.missing:
            await asyncio.sleep(0)  # lets others run when all is remembered
            return
        self.ready = asyncio.get_running_loop().create_future()
        await self.ready


class InFlight:
    """The entries of one model that are on their way."""

    def __init__(self, cache: ValueCache, metrics: ModelMetrics) -> None:
        self._cache = cache
        self._metrics = metrics
        self._entries: dict[bytes, Entry] = {}
        self._new: list[Entry] = []  # of this turn of the loop
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, worker: Worker) -> None:
        """The worker that does the work, and the running loop as the place where its results go."""
        self._worker, self._loop = worker, asyncio.get_running_loop()

    def request(self, windows: Iterable[tuple[bytes, Window]], ticket: Ticket) -> list[Entry]:
        """One entry a window: remembered, joined or new.

        Where nothing is on its way the new ones go to the worker at once, else with all others of
        this turn of the loop: one wake-up of the device for all of them, and one batch.

        Args:
            windows: each with the key of its content.
        """
        assert self._loop is not None
        idle = not self._entries
        entries: list[Entry] = []
        new: list[Entry] = []
        hits = 0
        now_ns = time.monotonic_ns()
        for key, window in windows:
            values = self._cache.get(key)
            entry = self._entries.get(key)
            if values is not None:
                entry = Entry(window, key=key)
                entry.values = values
                hits += 1
            else:
                if entry is None or entry.error is not None:
                    entry = Entry(
                        window,
                        key=key,
                        lane=ticket.lane,
                        deadline_ns=ticket.deadline_ns,
                        enqueued_ns=now_ns,
                    )
                    self._entries[key] = entry
                    new.append(entry)
                else:
                    self._join(entry, ticket)
                entry.waiters.append(ticket)
                ticket.missing += 1
            entries.append(entry)
        ticket.entries += entries
        self._metrics.windows(hits=hits, joined=len(entries) - hits - len(new), misses=len(new))
        if new:
            if not (idle or self._new):
                self._loop.call_soon(self._submit)
            self._new += new
            if idle:
                self._submit()
        return entries

    def abandon(self, ticket: Ticket) -> None:
        """The request went away; entries that nobody else waits for are dropped."""
        assert self._worker is not None
        dropped: list[Entry] = []
        for entry in ticket.entries:
            if entry.resolved or ticket not in entry.waiters:
                continue
            entry.waiters = [waiter for waiter in entry.waiters if waiter is not ticket]
            if not entry.waiters:
                self._forget(entry)
                dropped.append(entry)
        if dropped:
            self._worker.discard(dropped)

    def deliver(self, entries: list[Entry]) -> None:
        """Takes resolved entries from any thread; one wake-up of the loop for all of them."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, entries)

    def _submit(self) -> None:
        assert self._worker is not None
        new, self._new = self._new, []
        if waited_for := [entry for entry in new if not entry.abandoned]:
            self._worker.submit(waited_for)

    def _join(self, entry: Entry, ticket: Ticket) -> None:
        """Another request waits for it: the later deadline and the faster lane hold."""
        assert self._worker is not None
        if entry.deadline_ns is not None:
            entry.deadline_ns = (
                max(entry.deadline_ns, ticket.deadline_ns)
                if ticket.deadline_ns is not None
                else None
            )
        if ticket.lane is Priority.INTERACTIVE:
            self._worker.promote(entry)

    def _settle(self, entries: list[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.error, DeadlineExceeded) and not entry.expired(time.monotonic_ns()):
                self._again(entry)
                continue
            self._forget(entry)
            if entry.values is not None:
                self._cache.put(entry.key, entry.values)
            for ticket in entry.waiters:
                ticket.missing -= 1
                if not ticket.missing and ticket.ready is not None and not ticket.ready.done():
                    ticket.ready.set_result(None)
            entry.waiters = []  # else tickets and entries would hold each other

    def _again(self, entry: Entry) -> None:
        """Expired while a request with a later deadline was about to join it."""
        assert self._worker is not None
        entry.error = None
        self._worker.submit([entry])

    def _forget(self, entry: Entry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
