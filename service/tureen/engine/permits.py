"""Admission by permits: work is let in or refused at once, with a hint when to come back.

Where several models are served half of the permits is anybody's, and the other half is kept for them in
equal parts: a flood of requests for one model does not turn away those for another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from tureen.errors import Overloaded

LEAST_WAIT_S = 0.05
MOST_WAIT_S = 30.0
UNMEASURED_WAIT_S = 1.0
MOST_WAITING = 4  # times the responses that may be in flight


@dataclass(slots=True)
class _Part:
    """Of one model. line: of callers that wait, how many permits they want, and their turn."""

    taken: int = 0
    line: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Permits:
    """Counts the responses in flight. For one thread, that of the event loop.

    Args:
        most: of all models together.
        models: that are served.
        largest: of the numbers that are asked for at once; an idle server can always give them.
    """

    def __init__(self, most: int, models: Sequence[str] = ("",), largest: int = 1) -> None:
        self.most = most
        self.taken = 0
        self.waiting = 0  # responses of callers that stand in line
        self._parts = {model: _Part() for model in models}
        others = len(models) - 1
        self._kept = min(most // (2 * len(models)), (most - largest) // others) if others else 0

    @contextmanager
    def hold(self, count: int, wait_s: Callable[[], float], model: str = "") -> Iterator[None]:
        """`count` permits for the time of the block.

        Args:
            wait_s: how long a refused caller should wait, asked only then.
        Raises:
            Overloaded: so many are not free.
        """
        part = self._parts[model]
        if not self._fits(part, count):
            raise self._refusal(count, wait_s())
        self._take(part, count)
        try:
            yield
        finally:
            self._take(part, -count)

    @asynccontextmanager
    async def wait(
        self, count: int, wait_s: Callable[[], float], patience_s: float, model: str = ""
    ) -> AsyncIterator[None]:
        """`hold`, but who finds no room stands in line for as long as `patience_s`.

        Raises:
            Overloaded: the patience is at its end, or the line is too long to join.
        """
        part = self._parts[model]
        full = part.line or not self._fits(part, count)
        if full and patience_s > 0 and self.waiting + count <= MOST_WAITING * self.most:
            if not await self._turn(part, count, patience_s):
                raise self._refusal(count, wait_s())
            try:
                yield
            finally:
                self._take(part, -count)
        else:
            with self.hold(count, wait_s, model):
                yield

    async def _turn(self, part: _Part, count: int, within_s: float) -> bool:
        """Whether `count` permits were taken for this caller before the time was over."""
        place = count, asyncio.get_running_loop().create_future()
        part.line.append(place)
        self.waiting += count
        try:
            await asyncio.wait((place[1],), timeout=within_s)
        except asyncio.CancelledError:
            if place[1].done():
                self._take(part, -count)
            raise
        finally:
            if not place[1].done():
                part.line.remove(place)
                self.waiting -= count
                self._let_in()  # it may have stood before smaller ones
        return place[1].done()

    def _fits(self, part: _Part, count: int) -> bool:
        free = self.most - self.taken
        if self._kept:
            free -= sum(
                max(0, self._kept - one.taken) for one in self._parts.values() if one is not part
            )
        return count <= free

    def _take(self, part: _Part, count: int) -> None:
        """count: negative when they are given back."""
        part.taken += count
        self.taken += count
        if count < 0:
            self._let_in()

    def _let_in(self) -> None:
        """The head of each line, for as long as one of them fits."""
        entered = self.waiting > 0
        while entered:
            entered = False
            for part in self._parts.values():
                if part.line and self._fits(part, part.line[0][0]):
                    count, turn = part.line.popleft()
                    self.waiting -= count
                    self._take(part, count)
                    turn.set_result(None)
                    entered = True

    def _refusal(self, count: int, retry_after_s: float) -> Overloaded:
        kept = ""
        if self.taken + count <= self.most:
            kept = f" and keeps {self._kept} of them for each of its {len(self._parts)} models"
        return Overloaded(
            f"{self.taken} responses are in flight and {count} more were sent; this server "
            f"takes {self.most} (max_concurrent_requests){kept}. Try again in {retry_after_s:.2f} s.",
            got=self.taken + count,
            limit=self.most,
            retry_after_s=retry_after_s,
        )


def wait_hint_s(outstanding_tokens: int, tokens_per_s: float | None) -> float:
    """How long the work that is there takes, bounded; a guess before anything was measured."""
    if tokens_per_s is None:
        return UNMEASURED_WAIT_S
    return min(MOST_WAIT_S, max(LEAST_WAIT_S, outstanding_tokens / tokens_per_s))
