import asyncio
import threading

import pytest
from engine_fakes import PATIENCE_S, wait_until

from tureen.engine.background import busy, in_background


def test_it_gives_what_the_function_gives_and_raises_what_it_raises():
    async def test():
        assert await in_background(divmod, 7, 3) == (2, 1)
        with pytest.raises(ZeroDivisionError):
            await in_background(divmod, 7, 0)

    asyncio.run(test())


def test_the_loop_ends_while_it_still_runs():
    done = threading.Event()

    async def test():
        running = asyncio.create_task(in_background(done.wait, PATIENCE_S))
        await asyncio.sleep(0)  # until it has started
        running.cancel()

    asyncio.run(test())  # `asyncio.to_thread` would be waited for here
    assert busy()
    done.set()
    wait_until(lambda: not busy(), "the thread to end")
