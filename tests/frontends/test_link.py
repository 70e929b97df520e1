"""One socket between two ends: answers, errors, cancellation, and an end that goes away."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from contracts.strategies import contract
from hypothesis import given, settings

from tureen.contracts import RankResponse, ScoreResponse
from tureen.errors import BackendFailure, QuotaExceeded
from tureen.frontends.link import Link, LinkLost
from tureen.frontends.messages import read, written

BIG = b"x" * 3_000_000  # of many reads


@contextlib.asynccontextmanager
async def linked(answer: Any, heard: list[object]) -> AsyncIterator[tuple[Link, Link]]:
    loop = asyncio.get_running_loop()
    made = []
    for end in socket.socketpair():
        end.setblocking(False)
        _, link = await loop.create_connection(
            lambda: Link(answer, lambda _, said: heard.append(said), lambda _: None), sock=end
        )
        made.append(link)
    try:
        yield made[0], made[1]
    finally:
        for link in made:
            link.close()


async def echo(what: object) -> object:
    return what


def test_answers_come_to_who_asked_whatever_their_order():
    async def run() -> None:
        gates = {number: asyncio.Event() for number in range(3)}

        async def later(number: int) -> int:
            await gates[number].wait()
            return 10 * number

        async with linked(later, []) as (front, _):
            calls = [asyncio.create_task(front.call(number)) for number in range(3)]
            for number in (2, 0, 1):
                gates[number].set()
                assert await calls[number] == 10 * number

    asyncio.run(run())


def test_what_is_larger_than_a_read_and_what_is_many_in_one():
    async def run() -> None:
        heard: list[object] = []
        async with linked(echo, heard) as (front, _):
            for number in range(50):
                front.tell(number)
            assert await front.call(BIG) == BIG
        assert heard == list(range(50))

    asyncio.run(run())


def test_an_error_is_raised_where_it_was_asked_for(caplog: pytest.LogCaptureFixture):
    async def fail(what: str) -> object:
        if what == "quota":
            raise QuotaExceeded("5 were sent; wait.", got=5, limit=4, retry_after_s=1.5)
        raise KeyError(what)

    async def run() -> None:
        async with linked(fail, []) as (front, _):
            with pytest.raises(QuotaExceeded) as caught:
                await front.call("quota")
            assert (
                caught.value.info()
                == QuotaExceeded("5 were sent; wait.", got=5, limit=4, retry_after_s=1.5).info()
            )
            with pytest.raises(BackendFailure, match="its log has the details"):
                await front.call("another")

    asyncio.run(run())
    assert "KeyError: 'another'" in caplog.text


def test_who_is_cancelled_cancels_at_the_other_end():
    async def run() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def endless(what: object) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with linked(endless, []) as (front, _):
            call = asyncio.create_task(front.call("work"))
            await begun.wait()
            call.cancel()
            await asyncio.wait_for(ended.wait(), 60)
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(run())


def test_an_end_that_goes_frees_its_work_and_fails_what_waits_for_it():
    async def run() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def endless(what: object) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with linked(endless, []) as (front, device):
            call = asyncio.create_task(front.call("work"))
            await begun.wait()
            device.close()
            with pytest.raises(LinkLost):
                await call
            await asyncio.wait_for(ended.wait(), 60)
            with pytest.raises(LinkLost):
                front.tell("anything")

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(contract(ScoreResponse) | contract(RankResponse))
def test_answers_cross_unchanged(answer: ScoreResponse | RankResponse):
    assert read(written(answer)) == answer
