"""When new windows go to the worker."""

import asyncio
from typing import Any

import numpy as np
from engine_fakes import window

from tureen.contracts import Priority
from tureen.engine.cache import ValueCache
from tureen.engine.inflight import InFlight, Ticket
from tureen.engine.queue import Entry


class Worker:
    """Takes what is submitted."""

    def __init__(self) -> None:
        self.submitted: list[list[bytes]] = []
        self.discarded: list[bytes] = []

    def submit(self, entries: list[Entry]) -> None:
        self.submitted.append([entry.key for entry in entries])

    def promote(self, entry: Entry) -> None: ...

    def discard(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.abandoned = True
        self.discarded += [entry.key for entry in entries]


class Unheard:
    def windows(self, **counts: int) -> None: ...


def attached() -> tuple[InFlight, Worker]:
    in_flight, worker = InFlight(ValueCache(0), Unheard()), Worker()  # type: ignore[arg-type]
    in_flight.attach(worker)  # type: ignore[arg-type]
    return in_flight, worker


def asked(in_flight: InFlight, key: bytes) -> tuple[Ticket, Entry]:
    ticket = Ticket(Priority.INTERACTIVE, None)
    (entry,) = in_flight.request([(key, window(1))], ticket)
    return ticket, entry


def test_the_first_waits_for_nobody_and_those_of_a_turn_go_together():
    async def run() -> None:
        in_flight, worker = attached()
        for key in (b"1", b"2", b"3"):
            asked(in_flight, key)
        assert worker.submitted == [[b"1"]]
        await asyncio.sleep(0)
        assert worker.submitted == [[b"1"], [b"2", b"3"]]

    asyncio.run(run())


def test_when_all_are_answered_the_next_is_a_first_one_again():
    async def run() -> None:
        in_flight, worker = attached()
        ticket, entry = asked(in_flight, b"1")
        entry.values = np.zeros((1, 1, 1), np.float32)
        in_flight.deliver([entry])
        await ticket.wait()
        asked(in_flight, b"2")
        assert worker.submitted == [[b"1"], [b"2"]]

    asyncio.run(run())


def test_who_leaves_within_the_turn_never_reaches_the_worker():
    async def run() -> None:
        in_flight, worker = attached()
        asked(in_flight, b"1")
        ticket, _ = asked(in_flight, b"2")
        asked(in_flight, b"3")
        in_flight.abandon(ticket)
        await asyncio.sleep(0)
        assert worker.submitted == [[b"1"], [b"3"]]
        assert worker.discarded == [b"2"]

    asyncio.run(run())


def test_one_who_joins_within_the_turn_is_not_submitted_twice():
    async def run() -> None:
        in_flight, worker = attached()
        asked(in_flight, b"1")
        tickets: list[Any] = [asked(in_flight, b"2") for _ in range(2)]
        assert tickets[0][1] is tickets[1][1]
        await asyncio.sleep(0)
        assert worker.submitted == [[b"1"], [b"2"]]

    asyncio.run(run())


def test_what_is_remembered_lets_others_run():
    async def run() -> None:
        ran: list[bool] = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        await Ticket(Priority.INTERACTIVE, None).wait()
        assert ran == [True]

    asyncio.run(run())
