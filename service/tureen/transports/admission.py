"""What both doors ask of a request before the engine sees it, and what they write down after it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tureen.config import Config
from tureen.contracts import Priority, ScoreResponse
from tureen.engine.caller import ANONYMOUS, CALLER
from tureen.engine.metrics import Metrics
from tureen.engine.quota import Quota
from tureen.engine.scoring import Scoring, SoupKeeping, SoupsOf
from tureen.errors import (
    BackendFailure,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    TureenError,
    Unauthenticated,
    failure_of,
)
from tureen.transports.keys import Keys
from tureen.transports.logs import log_request

if TYPE_CHECKING:
    from tureen.transports.tracing import Tracing

RETRY_AFTER_S = 1.0  # while the model loads or the process leaves; nothing can be measured then
LONGEST_TIMEOUT_MS = 24 * 3600 * 1000

log = logging.getLogger("tureen")


class CallerGone(Exception):
    """The connection closed before the answer was there; nobody is left to be told."""


@dataclass(slots=True)
class Record:
    """How one request went."""

    code: str = "ok"

    def failure(self, answer: object) -> TureenError | None:
        """The error to give instead of a response without a single score.

        Not raised inside `recorded`: the scorer has counted it, sample by sample.
        """
        failure = failure_of(answer) if isinstance(answer, ScoreResponse) else None
        if failure is not None:
            self.code = failure.code
        return failure


class Admission:
    """One for the process, shared by both doors.

    Scoring is refused as `overloaded` until `open` is called with the loaded scorer, and again
    after `close`; what was admitted before that is finished (`drained`).

    Args:
        tracing: begins the traces of requests; None: nothing is traced.
    """

    def __init__(self, config: Config, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self.config = config
        self.metrics = metrics
        self.tracing = tracing
        self._keys = Keys(config)
        self._scorer: Scoring | None = None
        self._soups: SoupsOf | None = None
        self._closed: str | None = f"{config.models} is being loaded"
        self.in_flight = 0
        self.leaving = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()

    def open(self, scorer: Scoring, soups: SoupsOf) -> None:
        self._scorer, self._soups, self._closed, self.leaving = scorer, soups, None, False
        self.metrics.watch_ready(lambda: self.ready()[0])  # which knows of leaving, too
        self._settled.set()

    def close(self, reason: str) -> None:
        self._closed, self.leaving = reason, True
        self._settled.set()

    async def opened(self, within_s: float) -> None:
        """Returns when the model is loaded, when the server leaves, or when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()

    async def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self.metrics.render()

    async def drained(self) -> None:
        """Returns when everything admitted has been answered."""
        await self._idle.wait()

    @property
    def open_to_strangers(self) -> bool:
        return self._keys.open_to_strangers

    def ready(self) -> tuple[bool, str]:
        """Whether scores can be expected, and the reason when not."""
        if self._closed is not None or self._scorer is None:
            return False, self._closed or "no model is loaded"
        return self._scorer.ready()

    def authenticate(self, authorization: str | None, *, admin: bool = False) -> None:
        """The caller gets the name, the lane and the quota of the key that was sent.

        Raises:
            Unauthenticated: keys are needed and none of them was sent.
            Forbidden: the key is not for this.
        """
        keys = self._keys
        key = keys.admin(authorization) if admin else keys.scorer(authorization)
        caller = CALLER.get()
        if key is not None and caller is not None:
            caller.client, caller.lane, caller.quota = key.name, key.lane, key.quota

    def quota(self, client: str) -> Quota | None:
        """Of the key of this name; what `authenticate` gave to a caller in another process."""
        return self._keys.quota(client)

    def knows(self, authorization: str | None) -> bool:
        """Whether `authenticate` would let this caller score."""
        try:
            self._keys.scorer(authorization)
        except Unauthenticated:
            return False
        return True

    def scorer(self) -> Scoring:
        """Raises Overloaded while nothing is admitted."""
        if self._closed is not None or self._scorer is None:
            raise Overloaded(
                f"Not answering now: {self._closed}. Come back in {RETRY_AFTER_S:g} s.",
                retry_after_s=RETRY_AFTER_S,
            )
        return self._scorer

    def soups(self, model: str | None) -> SoupKeeping:
        """Of this model, or of the default model.

        Raises:
            UnknownModel. Overloaded: nothing is admitted.
        """
        scorer = self.scorer()
        assert self._soups is not None  # came with the scorer
        return self._soups(scorer.model(model).id)

    @contextmanager
    def admitted(self) -> Iterator[Scoring]:
        """The scorer, for one request that will be answered whatever happens to the process."""
        scorer = self.scorer()
        self.in_flight += 1
        self._idle.clear()
        try:
            yield scorer
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    @contextmanager
    def recorded(self, door: str, route: str) -> Iterator[Record]:
        """Counts one request, its code and its time, traces and logs it where that is asked for.

        What is raised leaves as a TureenError.
        """
        started, record = time.perf_counter(), Record()
        caller, trace = CALLER.get(), None
        if caller is not None:
            caller.route = route
        if self.tracing is not None and caller is not None:
            trace = self.tracing.begin(door, route, caller)
            caller.trace = trace if trace.recording else None
        try:
            yield record
        except TureenError as error:
            record.code = error.code
            self.metrics.error(error.code)
            raise
        except (asyncio.CancelledError, CallerGone):
            record.code = "cancelled"
            raise
        except Exception:
            record.code = BackendFailure.code
            self.metrics.error(record.code)
            log.exception("%s %s failed", door, route)
            raise BackendFailure(
                "The server failed on this request; its log has the details. Try again."
            ) from None
        finally:
            seconds = time.perf_counter() - started
            self.metrics.request(door, route, record.code, seconds)
            if trace is not None:
                trace.end(caller.client if caller is not None else ANONYMOUS, record.code)
            if self.config.log_requests or self.config.log_text:
                text = caller.samples if caller is not None and self.config.log_text else ()
                log_request(door, route, record.code, seconds, text)


def check_size(size: int, limit: int) -> None:
    """Raises PayloadTooLarge for a body or message of more bytes than `max_body_bytes`."""
    if size > limit:
        raise PayloadTooLarge(
            f"The request is {size} bytes; this server takes {limit} (max_body_bytes). Split it, "
            "or start the server with a larger --max-body-bytes.",
            got=size,
            limit=limit,
        )


def priority_of(value: str | None) -> Priority:
    """The lane that `x-priority` names; interactive when it is absent."""
    if value is None:
        return Priority.INTERACTIVE
    try:
        return Priority(value)
    except ValueError:
        given = value[:40]
        raise InvalidRequest(
            f"x-priority is {given!r}; it must be one of {', '.join(Priority)}.",
            field="x-priority",
            got=given,
        ) from None


def deadline_of(timeout_ms: str | None) -> int | None:
    """The deadline, on the clock of time.monotonic_ns, that header X-Request-Timeout-Ms sets."""
    if timeout_ms is None:
        return None
    given = timeout_ms[:40]
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_TIMEOUT_MS:
        raise InvalidRequest(
            f"X-Request-Timeout-Ms is {given!r}; it must be a number of milliseconds from 0 to "
            f"{LONGEST_TIMEOUT_MS}.",
            field="x-request-timeout-ms",
            got=given,
            limit=LONGEST_TIMEOUT_MS,
        )
    return time.monotonic_ns() + int(value * 1e6)
