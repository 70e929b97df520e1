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


def test_a_flood_for_one_model_leaves_the_others_their_part():
    """Of 12 permits 6 are anybody's; of the other 6 each of three models keeps 2."""
    permits = Permits(12, ("a", "b", "c"))
    with permits.hold(8, no_hint, "a"):
        with pytest.raises(Overloaded, match="keeps 2 of them for each of its 3 models"):
            permits.hold(1, no_hint, "a").__enter__()
        with permits.hold(2, no_hint, "b"), permits.hold(2, no_hint, "c"):
            assert permits.taken == 12
    assert permits.taken == 0


def test_the_largest_request_is_always_possible_on_an_idle_server():
    permits = Permits(12, ("a", "b"), largest=11)
    with permits.hold(11, no_hint, "a"), permits.hold(1, no_hint, "b"):
        assert permits.taken == 12


def test_who_waits_for_one_model_does_not_stand_before_another():
    async def run() -> None:
        permits, entered = Permits(4, ("a", "b")), []

        async def enter(model: str, count: int) -> None:
            async with permits.wait(count, no_hint, 10, model):
                entered.append(model)

        with permits.hold(3, no_hint, "a"):
            waiting = asyncio.create_task(enter("a", 1))
            await turns()
            await enter("b", 1)
            assert entered == ["b"]
        await waiting
        assert (entered, permits.taken, permits.waiting) == (["b", "a"], 0, 0)

    asyncio.run(run())
