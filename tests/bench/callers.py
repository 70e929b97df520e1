"""The lightest clients there are, for they share the processor with what they measure.

HTTP: connections of asyncio that httptools parses, 40 µs of processor a request (aiohttp 130, httpx2
1,200, all measured against one echo). gRPC: grpc.aio, bytes in and bytes out. Every caller raises where
an answer is not a score.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import httptools
from bench.workload import Request

from tureen.v1 import reward_pb2 as pb

Call = Callable[[Request], Awaitable[bytes]]
"""Sends one request and gives the answer."""

TIMEOUT_S = 120.0
_SCORE = "/tureen.v1.RewardService/Score"
_STREAM = "/tureen.v1.RewardService/ScoreStream"


class Refused(RuntimeError):
    """An answer that is no score: the measurement would be of something else."""


@asynccontextmanager
async def http(
    port: int, path: str = "/v1/score", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Call]:
    """POST over kept connections, as many as there are requests at once."""
    given = {"host": "127.0.0.1", "content-type": "application/json", **(headers or {})}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given.items())
    idle: list[_Connection] = []
    opened: list[_Connection] = []
    loop = asyncio.get_running_loop()

    async def call(request: Request) -> bytes:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
            opened.append(connection)
        length = len(request.payload)
        whole = f"{head}content-length: {length}\r\n\r\n".encode() + request.payload
        async with asyncio.timeout(TIMEOUT_S):
            status, body = await connection.exchange(whole)
        idle.append(connection)
        if status != 200:
            raise Refused(f"port {port}: HTTP {status} {body[:300].decode(errors='replace')}")
        return body

    try:
        yield call
    finally:
        for connection in opened:
            connection.close()


class _Connection(asyncio.Protocol):
    """One exchange at a time."""

    def __init__(self) -> None:
        self._transport: Any = None  # uvloop's is no asyncio.Transport
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []

    def exchange(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        body, self._pieces = b"".join(self._pieces), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))


@asynccontextmanager
async def grpc_unary(target: str) -> AsyncIterator[Call]:
    async with grpc.aio.insecure_channel(target) as channel:
        method = channel.unary_unary(_SCORE)

        async def call(request: Request) -> bytes:
            try:
                return await method(request.payload, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise Refused(f"{target}: {error.code().name} {error.details()}") from error

        yield call


@asynccontextmanager
async def grpc_stream(target: str) -> AsyncIterator[Call]:
    """All requests over one ScoreStream; answers are told apart by the id of their first sample."""
    waiting: dict[str, asyncio.Future[bytes]] = {}
    outbox: asyncio.Queue[bytes | None] = asyncio.Queue()  # a stream takes one writer at a time

    async def messages() -> AsyncIterator[bytes]:
        while (message := await outbox.get()) is not None:
            yield message

    async def read(stream: AsyncIterable[bytes]) -> None:
        try:
            async for raw in stream:
                result = pb.ScoreResponse.FromString(raw).results[0]
                answer = waiting.pop(result.id)
                if result.HasField("error"):
                    answer.set_exception(Refused(f"{target}: {result.error.message}"))
                else:
                    answer.set_result(raw)
        finally:  # whatever ended it, nobody waits for ever
            for answer in waiting.values():
                answer.cancel()

    async def call(request: Request) -> bytes:
        answer = waiting[request.id] = asyncio.get_running_loop().create_future()
        outbox.put_nowait(request.payload)
        async with asyncio.timeout(TIMEOUT_S):
            return await answer

    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as tasks:
        tasks.create_task(read(channel.stream_stream(_STREAM)(messages())))
        yield call
        outbox.put_nowait(None)
