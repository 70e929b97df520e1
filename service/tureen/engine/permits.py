"""Admission by permits: work is let in or refused at once, with a hint when to come back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from tureen.errors import Overloaded

LEAST_WAIT_S = 0.05
MOST_WAIT_S = 30.0
UNMEASURED_WAIT_S = 1.0
MOST_WAITING = 4  # times the responses that may be in flight


class Permits:
    """Counts the responses in flight. For one thread, that of the event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.waiting = 0  # responses of callers that stand in line
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextmanager
    def hold(self, count: int, wait_s: Callable[[], float]) -> Iterator[None]:
        """`count` permits for the time of the block.

        Args:
            wait_s: how long a refused caller should wait, asked only then.
        Raises:
            Overloaded: so many are not free.
        """
        if self.taken + count > self.most:
            raise self._refusal(count, wait_s())
        self.taken += count
        try:
            yield
        finally:
            self._give_back(count)

    @asynccontextmanager
    async def wait(
        self, count: int, wait_s: Callable[[], float], patience_s: float
    ) -> AsyncIterator[None]:
        """`hold`, but who finds no room stands in line for as long as `patience_s`.

        Raises:
            Overloaded: the patience is at its end, or the line is too long to join.
        """
        full = self.waiting or self.taken + count > self.most
        if full and patience_s > 0 and self.waiting + count <= MOST_WAITING * self.most:
            if not await self._turn(count, patience_s):
                raise self._refusal(count, wait_s())
            try:
                yield
            finally:
                self._give_back(count)
        else:
            with self.hold(count, wait_s):
                yield

    async def _turn(self, count: int, within_s: float) -> bool:
        """Whether `count` permits were taken for this caller before the time was over."""
        place = count, asyncio.get_running_loop().create_future()
        self._line.append(place)
        self.waiting += count
        try:
            await asyncio.wait((place[1],), timeout=within_s)
        except asyncio.CancelledError:
            if place[1].done():
                self._give_back(count)
            raise
        finally:
            if not place[1].done():
                self._line.remove(place)
                self.waiting -= count
                self._let_in()  # it may have stood before smaller ones
        return place[1].done()

    def _give_back(self, count: int) -> None:
        self.taken -= count
        self._let_in()

    def _let_in(self) -> None:
        while self._line and self.taken + self._line[0][0] <= self.most:
            count, turn = self._line.popleft()
            self.waiting -= count
            self.taken += count
            turn.set_result(None)

    def _refusal(self, count: int, retry_after_s: float) -> Overloaded:
        return Overloaded(
            f"{self.taken} responses are in flight and {count} more were sent; this server "
            f"takes {self.most} (max_concurrent_requests). Try again in {retry_after_s:.2f} s.",
            got=self.taken + count,
            limit=self.most,
            retry_after_s=retry_after_s,
        )


def wait_hint_s(outstanding_tokens: int, tokens_per_s: float | None) -> float:
    """How long the work that is there takes, bounded; a guess before anything was measured."""
    if tokens_per_s is None:
        return UNMEASURED_WAIT_S
    return min(MOST_WAIT_S, max(LEAST_WAIT_S, outstanding_tokens / tokens_per_s))
