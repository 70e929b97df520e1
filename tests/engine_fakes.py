"""Backends that follow a script, and windows without a tokenizer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from model_info import model_info

from tureen.contracts import (
    Calibration,
    Granularity,
    HeadInfo,
    Priority,
)
from tureen.engine.backend import Backend, BackendInfo
from tureen.engine.metrics import Metrics, ModelMetrics
from tureen.engine.queue import Entry
from tureen.text.batch import Batch
from tureen.text.encoding import Window

PATIENCE_S = 60.0  # of a machine that does much else; what is waited for ends the wait
"""How long a test waits for another thread before it gives up."""


def window(token: int, length: int = 4, units: int = 1) -> Window:
    """`length` times the same token, and `units` units over all of it."""
    return Window(
        input_ids=np.full(length, token, np.int32),
        token_type_ids=np.zeros(length, np.int32),
        spans=np.array([(0, length)] * units, np.int32),
        response_start=0,
    )


def entry(
    token: int = 1,
    length: int = 4,
    *,
    lane: Priority = Priority.INTERACTIVE,
    deadline_ns: int | None = None,
) -> Entry:
    return Entry(window(token, length), lane=lane, deadline_ns=deadline_ns)


def echo(batch: Batch) -> np.ndarray:
    """The first token of a row is the value of all its units."""
    rows, units, _ = batch.span_weights.shape
    return np.broadcast_to(batch.input_ids[:, :1, None, None], (rows, units, 1, 1)).astype(
        np.float32
    )


class FakeBackend:
    """Runs `script` on each batch and remembers the first token of every row it was given."""

    def __init__(
        self, script: Callable[[Batch], np.ndarray] = echo, heads: Sequence[str] = ("preference",)
    ) -> None:
        self.script = script
        self.seen: list[list[int]] = []
        self.closed = False
        self.info = BackendInfo(
            name="fake",
            dtype="float32",
            device="cpu",
            groups=1,
            heads=tuple(heads),
            fingerprint="sha256:fake",
        )

    def forward(self, batch: Batch) -> np.ndarray:
        self.seen.append(batch.input_ids[:, 0].tolist())
        return self.script(batch)

    def close(self) -> None:
        self.closed = True


class Gate:
    """In front of a script: batches wait until they are let through. rows: how many came."""

    def __init__(
        self, script: Callable[[Batch], np.ndarray] = echo, *, is_open: bool = False
    ) -> None:
        self.script = script
        self.rows = 0
        self._entered = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._let = math.inf if is_open else 0

    def __call__(self, batch: Batch) -> np.ndarray:
        self.rows += batch.rows
        self._entered.release()
        with self._changed:
            let = self._changed.wait_for(lambda: self._let > 0, PATIENCE_S)
            assert let, "nobody opened the gate"
            self._let -= 1
        return self.script(batch)

    def wait_until_entered(self) -> None:
        assert self._entered.acquire(timeout=PATIENCE_S), "no batch came to the gate"

    def hold(self) -> None:
        """From now on batches wait; those that came before are forgotten."""
        with self._changed:
            self._entered = threading.Semaphore(0)
            self._let = 0

    def open(self, batches: float = math.inf) -> None:
        """Lets so many batches through; all that will ever come when none is said."""
        with self._changed:
            self._let += batches
            self._changed.notify_all()


class Gated(Gate):
    """A backend behind a gate, which is open until a test holds it."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.forward, is_open=True)
        self.info = backend.info
        self.closed = False

    def forward(self, batch: Batch) -> np.ndarray:
        return self(batch)

    def close(self) -> None:
        self.closed = True


def wait_until(condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Returns as soon as the condition holds; fails when there is no patience left."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.005)


class Delivered:
    """What a worker delivered."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._changed = threading.Condition()

    def __call__(self, entries: list[Entry]) -> None:
        with self._changed:
            self.entries += entries
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Entry]:
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.entries) >= count, PATIENCE_S)
        assert came, f"{len(self.entries)} of {count} entries were delivered"
        return self.entries


def model_metrics(metrics: Metrics | None = None, *, members: int = 1) -> ModelMetrics:
    head = HeadInfo(
        name="preference",
        granularity=Granularity.RESPONSE,
        weight=1.0,
        calibration=Calibration(),
    )
    info = model_info(id="fake", backend="fake", members=members, heads=(head,))
    return (metrics if metrics is not None else Metrics()).model(info)
