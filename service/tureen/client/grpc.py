"""Clients over gRPC, with the surface of those over HTTP. grpc is imported on construction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any

from tureen.client.async_surface import AsyncCaller, AsyncSurface
from tureen.client.flow import Call
from tureen.client.grpc_door import Door
from tureen.client.grpc_stream import AsyncSession, Session
from tureen.client.surface import Trust
from tureen.client.sync_surface import Caller, SyncSurface


class GrpcRewardClient(SyncSurface):
    """Scores over gRPC.

    with GrpcRewardClient("localhost:8081") as client:
        [score] = client.score("Why is the sky blue?", ["Rayleigh scattering."])
    """

    def _open(self, address: str, trust: Trust, transport: Any) -> None:
        self._door = Door(address, self._headers, trust)
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
        session = Session(self._door, self._stub, self._call)
        try:
            yield session
        finally:
            session.close()

    def _close(self) -> None:
        self._channel.close()


class AsyncGrpcRewardClient(AsyncSurface):
    """`GrpcRewardClient` for asyncio."""

    def _open(self, address: str, trust: Trust, transport: Any) -> None:
        self._door = Door(address, self._headers, trust)
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
        session = AsyncSession(self._door, self._stub, self._call)
        try:
            yield session
        finally:
            await session.close()

    async def _close(self) -> None:
        await self._channel.close()
