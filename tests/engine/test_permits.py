"""Standing in line for permits."""

import asyncio

import pytest

from tureen.engine.permits import MOST_WAITING, Permits
from tureen.errors import Overloaded


def no_hint() -> float:
    return 1.0


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_who_waits_is_let_in_in_turn():
    async def run() -> list[str]:
        permits, entered = Permits(2), []

        async def enter(name: str, count: int) -> None:
            async with permits.wait(count, no_hint, 10):
                entered.append(name)

        with permits.hold(2, no_hint):
            first = asyncio.create_task(enter("two", 2))
            await turns()
            second = asyncio.create_task(enter("one", 1))
            await turns()
            assert entered == []
            assert permits.waiting == 3
        await asyncio.gather(first, second)
        assert (permits.taken, permits.waiting) == (0, 0)
        return entered

    assert asyncio.run(run()) == ["two", "one"]


def test_patience_ends_in_a_refusal_and_leaves_nothing_behind():
    async def run() -> None:
        permits = Permits(1)
        with permits.hold(1, no_hint):
            with pytest.raises(Overloaded) as caught:
                async with permits.wait(1, lambda: 0.25, 0.01):
                    pass
            assert caught.value.retry_after_s == 0.25
            assert (permits.taken, permits.waiting) == (1, 0)
        async with permits.wait(1, no_hint, 0):
            assert permits.taken == 1
        assert permits.taken == 0

    asyncio.run(run())


@pytest.mark.parametrize("let_in", [False, True])
def test_who_leaves_the_line_frees_the_place(let_in: bool):
    """Cancelled while it waits, or in the very moment in which its turn came."""

    async def run() -> None:
        permits = Permits(1)

        async def enter() -> None:
            async with permits.wait(1, no_hint, 10):
                raise AssertionError("it had left")

        with permits.hold(1, no_hint):
            task = asyncio.create_task(enter())
            await turns()
            if not let_in:
                task.cancel()
                await asyncio.wait((task,))
        task.cancel()
        await asyncio.wait((task,))
        assert (permits.taken, permits.waiting) == (0, 0)

    asyncio.run(run())


def test_the_line_has_an_end():
    async def run() -> None:
        permits = Permits(1)
        with permits.hold(1, no_hint):

            async def enter() -> None:
                async with permits.wait(1, no_hint, 10):
                    pass

            tasks = [asyncio.create_task(enter()) for _ in range(MOST_WAITING)]
            await turns()
            with pytest.raises(Overloaded):
                await enter()
        await asyncio.gather(*tasks)

    asyncio.run(run())
