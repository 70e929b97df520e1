"""Work that blocks for seconds, on threads that nobody has to wait for when the process leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NAME: Final = "tureen-background"


async def in_background(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns or raises. Cancelling lets it run on, unheard.

    `asyncio.to_thread` would hold up the end of the loop, and of the process, until it is done.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        outcome.set_running_or_notify_cancel()  # from now on a cancelled caller cannot cancel it
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:  # whatever it is, it is the caller's
            outcome.set_exception(error)

    threading.Thread(target=work, name=_NAME, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def busy() -> bool:
    """Whether any of it still runs."""
    return any(thread.name == _NAME for thread in threading.enumerate())
