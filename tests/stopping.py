"""A run that is killed at many places: the process that would die is an exception that nothing catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    pass


class Stopping:
    """Wraps functions: every `every`-th call of any of them kills instead, `most` times in all.

    stops: how often it did.
    """

    def __init__(self, every: int, most: int) -> None:
        self._every, self._most = every, most
        self._calls = self.stops = 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stop(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            if self._calls % self._every == 0 and self.stops < self._most:
                self.stops += 1
                raise Killed
            return function(*args, **kwargs)

        return stop
