"""Messages between two processes of one server, over a Unix socket.

A message is its length and a pickle: both ends are one program, run by one user, and the socket lies
in a directory that nobody else may enter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from tureen.errors import BackendFailure, TureenError

_LENGTH = 4  # bytes

log = logging.getLogger("tureen")


class LinkLost(Exception):
    """The other end is gone; whether it did what it was asked is not known."""


class _Kind(Enum):
    CALL = auto()
    ANSWER = auto()
    CANCEL = auto()
    TELL = auto()


class Link(asyncio.Protocol):
    """One end, for one event loop.

    Args:
        answer: what the other end calls; a TureenError that it raises is raised there. It is
            cancelled when the caller was, or when the other end is gone.
        hear: takes what the other end tells, and the link that it came by.
        begin: called with the link when it is there.
    """

    def __init__(
        self,
        answer: Callable[[Any], Awaitable[object]],
        hear: Callable[[Link, Any], None],
        begin: Callable[[Link], None],
    ) -> None:
        self._answer, self._hear, self._begin = answer, hear, begin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[object]] = {}  # calls of ours
        self._tasks: dict[int, asyncio.Task[None]] = {}  # calls of theirs
        self._received = bytearray()
        self._held: list[bytes] = []
        self.lost: asyncio.Future[None] = self._loop.create_future()

    async def call(self, what: object) -> Any:
        """The other end's answer.

        Raises:
            LinkLost, and what the other end raises.
        """
        number, answer = next(self._numbers), self._loop.create_future()
        self._send(_Kind.CALL, number, what)
        self._waiting[number] = answer
        try:
            found = await answer
        except asyncio.CancelledError:
            if not self.lost.done():
                self._send(_Kind.CANCEL, number, None)
            raise
        finally:
            del self._waiting[number]
        if isinstance(found, TureenError):
            raise found
        return found

    def tell(self, what: object) -> None:
        """Without an answer. Raises LinkLost."""
        self._send(_Kind.TELL, 0, what)

    def close(self) -> None:
        """After what was sent."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] uvloop's own
        self._begin(self)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(received[start : start + _LENGTH], "big")
            if end > len(received):
                break
            self._take(*pickle.loads(memoryview(received)[start + _LENGTH : end]))
            start = end
        if start:
            self._received = received[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        for task in self._tasks.values():
            task.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLost())

    def _take(self, kind: _Kind, number: int, what: Any) -> None:
        if kind is _Kind.CALL:
            self._tasks[number] = self._loop.create_task(self._answered(number, what))
        elif kind is _Kind.TELL:
            self._hear(self, what)
        elif kind is _Kind.CANCEL:
            if number in self._tasks:
                self._tasks[number].cancel()
        elif (answer := self._waiting.get(number)) is not None and not answer.done():
            answer.set_result(what)

    async def _answered(self, number: int, what: object) -> None:
        try:
            found = await self._answer(what)
        except TureenError as error:
            found = error
        except Exception:
            log.exception("a call of another process failed")
            found = BackendFailure(
                "The server failed on this request; its log has the details. Try again."
            )
        finally:
            del self._tasks[number]
        if self._transport is not None:
            self._send(_Kind.ANSWER, number, found)

    def _send(self, kind: _Kind, number: int, what: object) -> None:
        if self._transport is None:
            raise LinkLost
        packed = pickle.dumps((kind, number, what), pickle.HIGHEST_PROTOCOL)
        if not self._held:
            self._loop.call_soon(self._flush)  # all of this turn of the loop, in one write
        self._held += (len(packed).to_bytes(_LENGTH, "big"), packed)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and self._transport is not None:
            self._transport.write(b"".join(held))
