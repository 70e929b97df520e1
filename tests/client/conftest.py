"""The four clients behind one synchronous face, so that one test speaks through every door."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from client.stand_in import StandIn

from tureen.client import (
    AsyncGrpcRewardClient,
    AsyncRewardClient,
    GrpcRewardClient,
    Retry,
    RewardClient,
)

DOORS = ["http", "http-async", "grpc", "grpc-async"]
QUICK = Retry(backoff_s=0.001, max_backoff_s=0.001)


class Awaited:
    """An asynchronous client whose coroutines are awaited, and whose iterators are collected."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def collected(iterator: Any) -> list[Any]:
            return [item async for item in iterator]

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            return self._runner.run(collected(answer) if inspect.isasyncgen(answer) else answer)

        return call


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def connect(door: str, service: StandIn) -> Iterator[Callable[..., Any]]:
    """connect(**settings) -> a client of `service` through `door`."""
    with ExitStack() as stack:

        def open_client(**settings: Any) -> Any:
            settings = {"retry": QUICK, **settings}
            if door.startswith("http"):
                kind = AsyncRewardClient if door.endswith("async") else RewardClient
                client: Any = kind("http://rm:8080", transport=service.http(), **settings)
            else:
                server = stack.enter_context(service.grpc())
                kind = AsyncGrpcRewardClient if door.endswith("async") else GrpcRewardClient
                client = kind(server.address, **settings)
            if door.endswith("async"):
                client = Awaited(client, stack.enter_context(asyncio.Runner()))
            stack.callback(client.close)
            return client

        yield open_client


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()
