"""Clients over gRPC, with the surface of those over HTTP. grpc is imported on construction."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tureen.client.flow import Call, Operation
from tureen.client.surface import (
    PROBE_TIMEOUT_S,
    AsyncCaller,
    AsyncSurface,
    Caller,
    SyncSurface,
)
from tureen.contracts import (
    ErrorInfo,
    ModelInfo,
    ModelList,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
)
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    MissingExtra,
    PayloadTooLarge,
    ServiceUnreachable,
    TureenError,
    Unauthenticated,
    from_info,
)

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # the server's max_body_bytes decides
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),  # a stream whose server vanished must not hang for ever
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted server is found by the next attempt
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.primary_user_agent", "tureen"),
)
# What a status means when it carries no error of Tureen; all others are failures of the backend.
_FOREIGN: dict[str, type[TureenError]] = {
    "UNAVAILABLE": ServiceUnreachable,
    "CANCELLED": ServiceUnreachable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "RESOURCE_EXHAUSTED": PayloadTooLarge,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Forbidden,
    "INVALID_ARGUMENT": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "NOT_FOUND": InvalidRequest,
}
_ANSWERS = {
    "score": ScoreResponse,
    "rank": RankResponse,
    "models": ModelList,
    "model": ModelInfo,
}


class _Door:
    """What both kinds of client do alike: the channel's arguments, questions, answers, errors."""

    def __init__(
        self, address: str, headers: dict[str, str], root_certificates: str | Path | None
    ) -> None:
        try:
            import grpc
            from google.rpc import status_pb2
            from grpc_health.v1 import health_pb2, health_pb2_grpc

            from tureen import wire
            from tureen.v1 import reward_pb2, reward_pb2_grpc
        except ImportError as error:
            raise MissingExtra("The gRPC client", "grpc") from error
        self.grpc, self.wire, self.pb = grpc, wire, reward_pb2
        self.health, self.health_stub = health_pb2, health_pb2_grpc.HealthStub
        self.status, self.stub = status_pb2.Status, reward_pb2_grpc.RewardServiceStub
        self.metadata = tuple(headers.items())
        scheme, separator, rest = address.partition("://")
        if separator and scheme not in ("grpc", "grpcs"):
            raise InvalidRequest(
                f"{address!r} is no address of a service; give one such as 'localhost:8081', or "
                "'grpcs://host:port' for TLS."
            )
        self.target, self.credentials = rest if separator else address, None
        if scheme == "grpcs":
            roots = None if root_certificates is None else Path(root_certificates).read_bytes()
            self.credentials = grpc.ssl_channel_credentials(roots)
        elif root_certificates is not None:
            raise InvalidRequest(f"root_certificates need a grpcs:// address, got {address!r}.")

    def channel(self, library: Any) -> Any:
        """library: grpc or grpc.aio."""
        if self.credentials is None:
            return library.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        return library.secure_channel(self.target, self.credentials, options=_CHANNEL_OPTIONS)

    def question(self, stub: Any, call: Call) -> Any:
        """The call under way: its answer with grpc, an awaitable of it with grpc.aio."""
        match call.operation:
            case "score":
                method, message = stub.Score, self.wire.to_proto(call.payload)
            case "rank":
                method, message = stub.Rank, self.wire.to_proto(call.payload)
            case "models":
                method, message = stub.ListModels, self.pb.ListModelsRequest()
            case "model":
                method, message = stub.GetModel, self.pb.GetModelRequest(model=call.payload)
        return method(message, timeout=call.timeout_s, metadata=self.metadata)

    def answer(self, operation: Operation, message: Any) -> Any:
        try:
            return self.wire.from_proto(_ANSWERS[operation], message)
        except InvalidRequest as error:  # what is invalid here is the answer
            raise BackendFailure(
                f"{self.target} answered something else than the contract ({error})."
            ) from error

    def error(self, failure: Any) -> TureenError:
        """What a grpc.RpcError or AioRpcError means."""
        for key, value in failure.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in self.status.FromString(value).details:
                    info = self.pb.Error()
                    if detail.Unpack(info):
                        return from_info(self.wire.from_proto(ErrorInfo, info))
        status = failure.code().name
        return _FOREIGN.get(status, BackendFailure)(f"{status}: {failure.details()}")

    def probe(self, channel: Any) -> Any:
        """The health check under way."""
        request = self.health.HealthCheckRequest()
        stub: Any = self.health_stub(channel)
        return stub.Check(request, timeout=PROBE_TIMEOUT_S, metadata=self.metadata)

    def is_well(self, answer: Any, ready: bool) -> bool:
        """Any answer shows that the process lives; only SERVING that it would score."""
        return not ready or answer.status == self.health.HealthCheckResponse.SERVING


class _Tickets:
    """Who waits for which answer of a ScoreStream; answers come in any order."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[str, Any] = {}  # futures of either library

    def issue(self, request: ScoreRequest, future: Any) -> tuple[str, ScoreRequest]:
        ticket = str(next(self._numbers))
        self._waiting[ticket] = future
        samples = tuple(
            replace(sample, id=f"{ticket}.{position}")
            for position, sample in enumerate(request.samples)
        )
        return ticket, replace(request, samples=samples)

    def withdraw(self, ticket: str) -> None:
        self._waiting.pop(ticket, None)

    def settle(self, answer: ScoreResponse) -> None:
        ids = [result.id or "" for result in answer.results]
        future = self._waiting.pop(ids[0].partition(".")[0], None) if ids else None
        if future is not None and not future.done():
            future.set_result(answer)

    def fail(self, failure: BaseException | None) -> None:
        """Everyone who waits hears of it; None abandons them."""
        while self._waiting:
            _, future = self._waiting.popitem()
            if failure is None:
                future.cancel()
            elif not future.done():
                future.set_exception(failure)


def _late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"No answer within {timeout_s:.1f} s; raise timeout_s.")


_ENDED = "the server ended the stream"


class GrpcRewardClient(SyncSurface):
    """Scores over gRPC.

    with GrpcRewardClient("localhost:8081") as client:
        [score] = client.score("Why is the sky blue?", ["Rayleigh scattering."])
    """

    def _open(self, address: str, root_certificates: str | Path | None, transport: Any) -> None:
        self._door = _Door(address, self._headers, root_certificates)
        self._channel = transport or self._door.channel(self._door.grpc)
        self._stub = self._door.stub(self._channel)

    def _call(self, call: Call) -> Any:
        try:
            message = self._door.question(self._stub, call)
        except self._door.grpc.RpcError as failure:
            raise self._door.error(failure) from failure
        return self._door.answer(call.operation, message)

    def _probe(self, *, ready: bool) -> bool:
        try:
            return self._door.is_well(self._door.probe(self._channel), ready)
        except self._door.grpc.RpcError:
            return False

    @contextmanager
    def _multiplexed(self) -> Iterator[Caller]:
        session = _Session(self._door, self._stub)
        try:
            yield lambda call: session.ask(call) if call.operation == "score" else self._call(call)
        finally:
            session.close()

    def _close(self) -> None:
        self._channel.close()


class _Session:
    """One ScoreStream for many threads, opened by the first question and again after it broke."""

    def __init__(self, door: _Door, stub: Any) -> None:
        self._door, self._stub = door, stub
        self._tickets = _Tickets()
        self._lock = threading.Lock()
        self._outbox: queue.SimpleQueue[Any] | None = None  # None: no stream is open
        self._stream: Any = None
        self._closed = False

    def ask(self, call: Call) -> ScoreResponse:
        future: Future[ScoreResponse] = Future()
        with self._lock:
            if self._closed:
                raise CancelledError
            ticket, request = self._tickets.issue(call.payload, future)
            try:
                message = self._door.wire.to_proto(request)
            except InvalidRequest:
                self._tickets.withdraw(ticket)
                raise
            if self._outbox is None:
                self._outbox = self._opened()
            self._outbox.put(message)
        try:
            return future.result(call.timeout_s)
        except TimeoutError as error:
            if isinstance(error, TureenError):  # DeadlineExceeded, said by the server
                raise
            raise _late(call.timeout_s) from None
        finally:
            self._tickets.withdraw(ticket)

    def _opened(self) -> queue.SimpleQueue[Any]:
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = self._stub.ScoreStream(iter(outbox.get, None), metadata=self._door.metadata)
        threading.Thread(target=self._read, args=(self._stream, outbox), daemon=True).start()
        return outbox

    def _read(self, stream: Any, outbox: queue.SimpleQueue[Any]) -> None:
        failure: TureenError = ServiceUnreachable(_ENDED)
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
        with self._lock:
            self._closed = True
            self._tickets.fail(None)
            if self._outbox is not None:
                self._outbox.put(None)
                self._stream.cancel()


class AsyncGrpcRewardClient(AsyncSurface):
    """`GrpcRewardClient` for asyncio."""

    def _open(self, address: str, root_certificates: str | Path | None, transport: Any) -> None:
        self._door = _Door(address, self._headers, root_certificates)
        if transport is not None:
            self._channel = transport

    @cached_property
    def _channel(self) -> Any:  # belongs to the loop that first uses it
        return self._door.channel(self._door.grpc.aio)

    @cached_property
    def _stub(self) -> Any:
        return self._door.stub(self._channel)

    async def _call(self, call: Call) -> Any:
        try:
            message = await self._door.question(self._stub, call)
        except self._door.grpc.RpcError as failure:
            raise self._door.error(failure) from failure
        return self._door.answer(call.operation, message)

    async def _probe(self, *, ready: bool) -> bool:
        try:
            return self._door.is_well(await self._door.probe(self._channel), ready)
        except self._door.grpc.RpcError:
            return False

    @asynccontextmanager
    async def _multiplexed(self) -> AsyncIterator[AsyncCaller]:
        session = _AsyncSession(self._door, self._stub)

        async def ask(call: Call) -> Any:
            return await (session.ask(call) if call.operation == "score" else self._call(call))

        try:
            yield ask
        finally:
            await session.close()

    async def _close(self) -> None:
        await self._channel.close()


class _AsyncSession:
    """`_Session` for the tasks of one loop."""

    def __init__(self, door: _Door, stub: Any) -> None:
        self._door, self._stub = door, stub
        self._tickets = _Tickets()
        self._outbox: asyncio.Queue[Any] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, call: Call) -> ScoreResponse:
        future = asyncio.get_running_loop().create_future()
        ticket, request = self._tickets.issue(call.payload, future)
        try:
            message = self._door.wire.to_proto(request)
            if self._outbox is None:
                self._outbox = asyncio.Queue()
                self._reading = asyncio.create_task(self._read(self._outbox))
            self._outbox.put_nowait(message)
            async with asyncio.timeout(call.timeout_s):
                return await future
        except TimeoutError as error:
            if isinstance(error, TureenError):
                raise
            raise _late(call.timeout_s) from None
        finally:
            self._tickets.withdraw(ticket)

    async def _read(self, outbox: asyncio.Queue[Any]) -> None:
        stream = self._stub.ScoreStream(_until_none(outbox), metadata=self._door.metadata)
        failure: TureenError = ServiceUnreachable(_ENDED)
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
