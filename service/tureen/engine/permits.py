"""Admission by permits: work is let in or refused at once, with a hint when to come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tureen.errors import Overloaded

LEAST_WAIT_S = 0.05
MOST_WAIT_S = 30.0
UNMEASURED_WAIT_S = 1.0


class Permits:
    """Counts the responses in flight. For one thread, that of the event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def hold(self, count: int, wait_s: Callable[[], float]) -> Iterator[None]:
        """`count` permits for the time of the block.

        Args:
            wait_s: how long a refused caller should wait, asked only then.
        Raises:
            Overloaded: so many are not free.
        """
        if self.taken + count > self.most:
            retry_after_s = wait_s()
            raise Overloaded(
                f"{self.taken} responses are in flight and {count} more were sent; this server "
                f"takes {self.most} (max_concurrent_requests). Try again in {retry_after_s:.2f} s.",
                got=self.taken + count,
                limit=self.most,
                retry_after_s=retry_after_s,
            )
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count


def wait_hint_s(outstanding_tokens: int, tokens_per_s: float | None) -> float:
    """How long the work that is there takes, bounded; a guess before anything was measured."""
    if tokens_per_s is None:
        return UNMEASURED_WAIT_S
    return min(MOST_WAIT_S, max(LEAST_WAIT_S, outstanding_tokens / tokens_per_s))
