"""How many responses a client may have scored, as a bucket that refills (token bucket)."""

from __future__ import annotations

import time
from collections.abc import Callable

from tureen.errors import QuotaExceeded

_MINUTE_S = 60.0


class Quota:
    """`per_minute` responses a minute in the long run, and as many at once after a pause.

    level(t) = min(per_minute, level(t₀) + (t − t₀) · per_minute / 60); an admitted request lowers
    it by its responses. One larger than the whole bucket is admitted when the bucket is full and
    leaves a debt behind, so that it is late and not impossible.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._seen_s = clock()

    def take(self, responses: int) -> None:
        """
        Raises:
            QuotaExceeded: not now; it says when.
        """
        now_s = self._clock()
        rate = self.per_minute / _MINUTE_S
        self._level = min(self.per_minute, self._level + (now_s - self._seen_s) * rate)
        self._seen_s = now_s
        short = min(responses, self.per_minute) - self._level
        if short > 0:
            wait_s = short / rate
            raise QuotaExceeded(
                f"{responses} responses were sent, and this key's quota of {self.per_minute} a minute "
                f"is used up. Try again in {wait_s:.1f} s, or ask the operator for more.",
                got=responses,
                limit=self.per_minute,
                retry_after_s=wait_s,
            )
        self._level -= responses

    def give_back(self, responses: int) -> None:
        """Of what was taken and refused elsewhere."""
        self._level += responses
