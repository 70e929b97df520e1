"""One batch on the device and what may go wrong with it. Synchronous: no thread of its own, no queue.

out of memory          the batch is halved, and the budget with it, for good
any other failure,     the batch is split until the poisoned entries are alone: they fail,
values not finite      the others are served
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tureen.engine.backend import Backend, BatchTooLarge
from tureen.engine.model_metrics import ModelMetrics
from tureen.engine.queue import Entry, device_tokens
from tureen.errors import BackendFailure, DeadlineExceeded, TureenError
from tureen.text.batch import Batch, collate

if TYPE_CHECKING:
    from tureen.text.encoding import Window

log = logging.getLogger(__name__)

Deliver = Callable[[list[Entry]], None]
"""Called with resolved entries, once for each forward pass and each failure. Must not raise."""

_KEPT = 0.8  # of what came before, when another batch is added to the speed

_Part = tuple[list[Entry], Batch | None]


class BatchOutcome(enum.Enum):
    """SERVED at least one entry, FAILED all that were tried, EMPTY: nobody waited any more."""

    SERVED = enum.auto()
    FAILED = enum.auto()
    EMPTY = enum.auto()


class Speed:
    """Real tokens a second over the latest batches, however many of them were under way at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = self._busy_ns = 0.0
        self._until_ns = 0

    def add(self, tokens: int, started_ns: int, ended_ns: int) -> None:
        """A batch that came through. The time in which another one ended too counts once."""
        with self._lock:
            busy_ns = max(0, ended_ns - max(started_ns, self._until_ns))
            self._until_ns = max(ended_ns, self._until_ns)
            self._tokens = _KEPT * self._tokens + tokens
            self._busy_ns = _KEPT * self._busy_ns + busy_ns

    @property
    def tokens_per_s(self) -> float | None:
        """None before the first batch."""
        with self._lock:
            return self._tokens / (self._busy_ns / 1e9) if self._busy_ns else None


class Runner:
    """Runs batches, in any number of threads; every entry goes to `deliver` with values or an error,
    unless abandoned.

    Args:
        shrink: called with the tokens a batch may have from now on; returns the budget in force.
    """

    def __init__(
        self,
        backend: Backend,
        deliver: Deliver,
        shrink: Callable[[int], int],
        metrics: ModelMetrics,
        pad_id: int,
    ) -> None:
        self._backend = backend
        self._deliver = deliver
        self._shrink = shrink
        self._metrics = metrics
        self._pad_id = pad_id
        self.speed = Speed()

    def collate(self, entries: Sequence[Entry]) -> Batch:
        return collate([entry.window for entry in entries], self._pad_id)

    def run(self, entries: list[Entry], batch: Batch | None) -> BatchOutcome:
        """Runs entries until each is resolved.

        Args:
            batch: of exactly these entries, or None to collate them here.
        """
        parts: list[_Part] = [(entries, batch)]
        outcome = BatchOutcome.EMPTY
        while parts:
            some, prepared = parts.pop()
            living = self._living(some)
            if not living:
                continue
            retry, served = self._attempt(living, prepared if len(living) == len(some) else None)
            parts += retry
            if served:
                outcome = BatchOutcome.SERVED
            elif outcome is BatchOutcome.EMPTY:
                outcome = BatchOutcome.FAILED
        return outcome

    def fail(self, entries: Sequence[Entry], error: TureenError) -> None:
        """Resolves what is not resolved yet."""
        failed = [entry for entry in entries if not entry.resolved and not entry.abandoned]
        for entry in failed:
            entry.error = error
        if failed:
            self._deliver(failed)

    def expire(self, entries: Sequence[Entry]) -> None:
        """Fails entries whose deadline passed."""
        self.fail(
            entries,
            DeadlineExceeded(
                "the deadline passed before the device was free; give more time, or send less "
                "at once."
            ),
        )

    def probe(self, window: Window) -> str | None:
        """Runs a window known to be good. Returns what is wrong with the device, or None."""
        try:
            values = self._backend.forward(collate([window], self._pad_id))
        except Exception as error:
            log.warning("a known-good window failed", exc_info=error)
            return f"a known-good window made the backend raise {type(error).__name__}"
        return None if np.isfinite(values).all() else "a known-good window has non-finite values"

    def _living(self, entries: list[Entry]) -> list[Entry]:
        """Without those whose caller left or whose deadline passed; the device never sees them."""
        now_ns = time.monotonic_ns()
        self.expire([entry for entry in entries if entry.expired(now_ns)])
        return [entry for entry in entries if not entry.abandoned and not entry.resolved]

    def _attempt(self, entries: list[Entry], batch: Batch | None) -> tuple[list[_Part], bool]:
        """One forward pass. Returns what is to be tried again, and whether an entry was served."""
        started_ns = time.monotonic_ns()
        try:
            if batch is None:
                batch = self.collate(entries)
            values = self._backend.forward(batch)
            self._check_shape(values, batch)
        except BatchTooLarge:
            return self._too_large(entries), False
        except Exception as error:
            return self._halves(entries, f"the backend raised {type(error).__name__}", error), False
        self._measure(entries, batch, started_ns, time.monotonic_ns())

        whole = bool(np.isfinite(values).all())
        served: list[Entry] = []
        poisoned: list[Entry] = []
        for entry, rows in zip(entries, values, strict=True):
            units = rows[: len(entry.window.spans)]
            if whole or np.isfinite(units).all():
                entry.values = units.copy()  # a view would keep the whole batch
                served.append(entry)
            else:
                poisoned.append(entry)
        if poisoned:
            self._metrics.nonfinite(len(poisoned))
        if served:
            self._deliver(served)
            return [(poisoned, None)] if poisoned else [], True
        return self._halves(poisoned, "the model's values are not finite"), False

    def _measure(self, entries: list[Entry], batch: Batch, started_ns: int, ended_ns: int) -> None:
        tokens, forward_ns = 0, ended_ns - started_ns
        for entry in entries:
            tokens += entry.tokens
            entry.queue_ns = started_ns - entry.enqueued_ns
            entry.forward_ns = forward_ns
        self.speed.add(tokens, started_ns, ended_ns)
        self._metrics.batch(
            rows=batch.rows,
            tokens=tokens,
            padded_tokens=device_tokens(
                [entry.tokens for entry in entries], self._backend.info.packs
            ),
            forward_ns=forward_ns,
        )

    def _halves(
        self, entries: list[Entry], reason: str, error: Exception | None = None
    ) -> list[_Part]:
        """Two halves to be tried; an entry that is alone already fails."""
        log.warning("a batch of %d failed: %s", len(entries), reason, exc_info=error)
        if len(entries) > 1:
            middle = len(entries) // 2
            return [(entries[middle:], None), (entries[:middle], None)]
        self._metrics.isolated()
        self.fail(
            entries,
            BackendFailure(
                f"{reason} on a window of {entries[0].tokens} tokens, run alone on "
                f"{self._backend.info.device}. No reward was substituted; if a retry fails too, report "
                "it with the fingerprint of the model."
            ),
        )
        return []

    def _too_large(self, entries: list[Entry]) -> list[_Part]:
        lengths = [entry.tokens for entry in entries]
        half = device_tokens(lengths, self._backend.info.packs) // 2
        budget = self._shrink(max(half, *lengths))
        self._metrics.shrunk(budget)
        return self._halves(
            entries, f"the device ran out of memory (max_batch_tokens is {budget} now)"
        )

    def _check_shape(self, values: np.ndarray, batch: Batch) -> None:
        info = self._backend.info
        rows, units, _ = batch.span_weights.shape
        expected = (rows, units, info.groups, len(info.heads))
        if values.shape != expected:
            raise RuntimeError(f"the backend gave values {values.shape}, not {expected}")
