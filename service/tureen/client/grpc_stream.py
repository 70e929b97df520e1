"""Many questions over one ScoreStream: answers come in any order and are told apart by ids.

A stream answers what it cannot read (too large, malformed) without an id. Nobody can tell whose
answer that is, so everybody who waits asks again by a call of their own, which has a status.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Any

from tureen.client.async_surface import AsyncCaller
from tureen.client.flow import Call
from tureen.client.grpc_door import Door
from tureen.client.sync_surface import Caller
from tureen.contracts import ScoreRequest, ScoreResponse
from tureen.errors import DeadlineExceeded, ServiceUnreachable, TureenError


class Unnamed(Exception):
    """The stream answered somebody, without saying whom."""


class Tickets:
    """Who waits for which answer. Futures may be of either library."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[str, Any] = {}

    def renamed(self, request: ScoreRequest) -> tuple[str, ScoreRequest]:
        """A new ticket, and the request with ids made from it."""
        ticket = str(next(self._numbers))
        samples = tuple(
            replace(sample, id=f"{ticket}.{position}")
            for position, sample in enumerate(request.samples)
        )
        return ticket, replace(request, samples=samples)

    def issue(self, ticket: str, future: Any) -> None:
        self._waiting[ticket] = future

    def withdraw(self, ticket: str) -> None:
        self._waiting.pop(ticket, None)

    def settle(self, answer: ScoreResponse) -> None:
        ids = [result.id for result in answer.results if result.id is not None]
        if not ids:
            self.fail(Unnamed())
            return
        future = self._waiting.pop(ids[0].partition(".")[0], None)
        if future is not None and not future.done():  # else its caller has left
            future.set_result(answer)

    def fail(self, failure: Exception | None) -> None:
        """Everyone who waits hears of it; None abandons them."""
        while self._waiting:
            _, future = self._waiting.popitem()
            if failure is None:
                future.cancel()
            elif not future.done():
                future.set_exception(failure)


def _ended() -> TureenError:
    return ServiceUnreachable("the server ended the stream")


def _rest(call: Call, ends_s: float) -> Call:
    return call._replace(timeout_s=max(0.001, ends_s - time.monotonic()))


def _late(error: TimeoutError, call: Call) -> TureenError:
    if isinstance(error, TureenError):  # DeadlineExceeded, as the server said it
        return error
    return DeadlineExceeded(f"No answer within {call.timeout_s:.1f} s; raise timeout_s.")


class Session:
    """A stream for many threads, opened by the first question and again after it broke.

    unary: asks by a call of its own.
    """

    def __init__(self, door: Door, stub: Any, unary: Caller) -> None:
        self._door, self._stub, self._unary = door, stub, unary
        self._tickets = Tickets()
        self._lock = threading.Lock()
        self._outbox: queue.SimpleQueue[Any] | None = None  # None: no stream is open
        self._stream: Any = None
        self._closed = False

    def __call__(self, call: Call) -> Any:
        if call.operation != "score":
            return self._unary(call)
        ends_s = time.monotonic() + call.timeout_s
        ticket, request = self._tickets.renamed(call.payload)
        message = self._door.wire.to_proto(request)
        future: Future[ScoreResponse] = Future()
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._outbox is None:
                self._outbox = self._opened()
            self._tickets.issue(ticket, future)
            self._outbox.put(message)
        try:
            return future.result(call.timeout_s)
        except Unnamed:
            return self._unary(_rest(call, ends_s))
        except TimeoutError as error:
            raise _late(error, call) from None
        finally:
            self._tickets.withdraw(ticket)

    def _opened(self) -> queue.SimpleQueue[Any]:
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = self._stub.ScoreStream(
            iter(outbox.get, None), metadata=self._door.traced_metadata()
        )
        threading.Thread(target=self._read, args=(self._stream, outbox), daemon=True).start()
        return outbox

    def _read(self, stream: Any, outbox: queue.SimpleQueue[Any]) -> None:
        failure = _ended()
        try:
            for message in stream:
                self._tickets.settle(self._door.answer("score", message))
        except self._door.grpc.RpcError as error:
            failure = self._door.error(error)
        except TureenError as error:
            failure = error
            stream.cancel()
        with self._lock:
            self._outbox = None
            self._tickets.fail(failure)
        outbox.put(None)  # ends the sending side

    def close(self) -> None:
        """Ends the stream; the server drops what nobody waits for any more."""
        with self._lock:
            self._closed = True
            self._tickets.fail(None)
            if self._outbox is not None:
                self._outbox.put(None)
                self._stream.cancel()


class AsyncSession:
    """`Session` for the tasks of one loop."""

    def __init__(self, door: Door, stub: Any, unary: AsyncCaller) -> None:
        self._door, self._stub, self._unary = door, stub, unary
        self._tickets = Tickets()
        self._outbox: asyncio.Queue[Any] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __call__(self, call: Call) -> Any:
        if call.operation != "score":
            return await self._unary(call)
        ends_s = time.monotonic() + call.timeout_s
        ticket, request = self._tickets.renamed(call.payload)
        message = self._door.wire.to_proto(request)
        future = asyncio.get_running_loop().create_future()
        if self._outbox is None:
            self._outbox = asyncio.Queue()
            self._reading = asyncio.create_task(self._read(self._outbox))
        self._tickets.issue(ticket, future)
        self._outbox.put_nowait(message)
        try:
            async with asyncio.timeout(call.timeout_s):
                return await future
        except Unnamed:
            return await self._unary(_rest(call, ends_s))
        except TimeoutError as error:
            raise _late(error, call) from None
        finally:
            self._tickets.withdraw(ticket)

    async def _read(self, outbox: asyncio.Queue[Any]) -> None:
        stream = self._stub.ScoreStream(_until_none(outbox), metadata=self._door.traced_metadata())
        failure = _ended()
        try:
            async for message in stream:
                self._tickets.settle(self._door.answer("score", message))
        except self._door.grpc.RpcError as error:
            failure = self._door.error(error)
        except TureenError as error:
            failure = error
        finally:
            stream.cancel()
            outbox.put_nowait(None)
        self._outbox = None
        self._tickets.fail(failure)

    async def close(self) -> None:
        self._tickets.fail(None)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


async def _until_none(outbox: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (message := await outbox.get()) is not None:
        yield message
