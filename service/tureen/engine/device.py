"""One device and all who compute on it: how many batches are there at once, and whose is next.

The workers of one device share its lock. A device thread that has work takes a batch only when there
is a place and it is its model's turn (`shares`); whoever leaves a place wakes whose turn it is then.
So a second model brings no second pair of batches to the same cores, and each batch is still formed at
the last moment. A worker by itself always has a place: there is nothing to arbitrate.

Backends of a CPU that keep threads of their own (ONNX Runtime) have a pool each, and pools without a
place are asleep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from tureen.contracts import Priority
from tureen.engine.shares import Claim, Shares, Turn


class Member(Protocol):
    """A worker. All is asked under the device's lock.

    model: that it serves; a soup and its shadow are of one model, and share its part.
    streams: batches it may have on the device at once.
    """

    model: str
    streams: int

    def claims(self) -> Priority | None:
        """The lane of the batch it would take now; None without one, or without an idle thread."""
        ...

    @property
    def has_work(self) -> bool:
        """Waiting or on the device."""
        ...

    def wake(self) -> None:
        """One of its idle threads."""
        ...


class Device:
    """
    Args:
        clock: seconds, monotonic.
    """

    def __init__(
        self, shares: Shares | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lock = threading.RLock()
        self._shares = shares if shares is not None else Shares()
        self._clock = clock
        self._members: list[Member] = []
        self._last_turns: dict[Member, int] = {}
        self._under_way: dict[Turn, tuple[Member, float]] = {}

    def join(self, member: Member) -> None:
        with self.lock:
            self._members.append(member)
            self._last_turns[member] = 0

    def quit(self, member: Member) -> None:
        """What it has on the device keeps no place any more."""
        with self.lock:
            if member in self._members:
                self._members.remove(member)
                del self._last_turns[member]
            for turn in [turn for turn, (whose, _) in self._under_way.items() if whose is member]:
                del self._under_way[turn]
            self.call()

    def arrive(self, member: Member) -> None:
        """Called before work comes to a member that has none."""
        if len(self._members) > 1:
            busy = {one.model for one in self._members if one.has_work}
            if member.model not in busy:
                self._shares.arrive(member.model, busy)

    def admits(self, member: Member) -> bool:
        """Whether it may take a batch now."""
        return len(self._members) == 1 or self._next() is member

    def begin(self, member: Member, tokens: int) -> Turn:
        """It takes a batch. tokens: padding included."""
        turn = self._shares.begin(member.model, tokens)
        self._last_turns[member] = turn.number
        self._under_way[turn] = member, self._clock()
        return turn

    def end(self, turn: Turn) -> None:
        """That batch is done; the place is free."""
        found = self._under_way.pop(turn, None)
        if found is not None:
            self._shares.end(turn, self._clock() - found[1])

    def call(self) -> None:
        """Wakes the member whose turn it is, if there is a place and work."""
        following = self._next()
        if following is not None:
            following.wake()

    def sharers(self, member: Member) -> int:
        """How many models divide the device now, this one included."""
        if len(self._members) == 1:
            return 1
        return len({member.model, *(one.model for one in self._members if one.has_work)})

    def _next(self) -> Member | None:
        if self._members and len(self._under_way) >= max(one.streams for one in self._members):
            return None
        waiting: list[Member] = []
        claims: list[Claim] = []
        for member in self._members:
            lane = member.claims()
            if lane is not None:
                waiting.append(member)
                claims.append(Claim(member.model, lane, self._last_turns[member]))
        return waiting[self._shares.next(claims)] if claims else None
