"""The device threads: they take batches from the queue and have them run. Knows no asyncio.

Each of `streams` threads has one batch on the device. Another one prepares the next batch meanwhile,
but only when more waits than one batch can hold: sealed early from a short queue, a batch would be
a small one. Else a device thread forms its batch itself, at the last moment, from everything that
has come. Where other workers use the same device it waits for its turn first (`device`).

Every entry that is submitted comes back through `deliver` once, with values or an error, unless it
was discarded. When a device thread dies the worker is in trouble until its successor, started at
once, has run a window that is known to be good, or another one a batch. What it had on the device
is run once more, each entry alone, so that only the one that killed the thread fails. After
`max_deaths` in a row everything fails and nothing more is taken.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from tureen.contracts import Priority
from tureen.engine.backend import Backend
from tureen.engine.device import Device
from tureen.engine.model_metrics import ModelMetrics
from tureen.engine.queue import Entry, Queue, device_tokens
from tureen.engine.runner import BatchOutcome, Deliver, Runner
from tureen.engine.shares import Turn
from tureen.errors import BackendFailure, Overloaded, TureenError
from tureen.text.batch import Batch

if TYPE_CHECKING:
    from tureen.text.encoding import Window

log = logging.getLogger(__name__)

_PROBE_AGAIN_S = 1.0  # while the device goes on failing


@dataclass(slots=True)
class _Prepared:
    """batch: None while it is not collated; the device thread does that itself if it comes first."""

    entries: list[Entry]
    lane: Priority
    expired: list[Entry] = field(default_factory=list)
    batch: Batch | None = None


class Worker:
    """Serves one backend.

    Args:
        probe: a window known to be good; it tells a broken device from a poisoned entry.
        model: whose part of the device it uses.
        device: that it shares with other workers; one of its own when None.
        streams: how many batches are on the device at once.
        max_deaths: of device threads, without a good batch in between.
    """

    def __init__(
        self,
        backend: Backend,
        queue: Queue,
        deliver: Deliver,
        metrics: ModelMetrics,
        *,
        probe: Window,
        model: str = "",
        device: Device | None = None,
        pad_id: int = 0,
        streams: int = 1,
        max_deaths: int = 3,
    ) -> None:
        self._runner = Runner(backend, deliver, self._shrink, metrics, pad_id)
        self._queue = queue
        self._metrics = metrics
        self._probe = probe
        self._max_deaths = max_deaths
        self.model, self.streams = model, streams
        self._device = device if device is not None else Device()
        self._lock = self._device.lock  # guards the queue and all below
        self._work = threading.Condition(self._lock)  # device threads wait for it
        self._room = threading.Condition(self._lock)  # the preparing thread waits for it
        self._held: list[list[Entry]] = [[] for _ in range(streams)]  # on the device
        self._turns: list[Turn | None] = [None] * streams
        self._idle = 0  # device threads that wait
        self._prepared: _Prepared | None = None
        self._suspects: list[Entry] = []  # were on the device when their thread died
        self._last_lane = Priority.INTERACTIVE
        self._stopping = False
        self._deaths = 0
        self._trouble: str | None = "the device threads have not started"
        self._probe_at_ns: int | None = None  # while there is trouble
        self._devices: dict[int, threading.Thread] = {}
        self._preparer = threading.Thread(
            target=self._prepare_loop, name="tureen-prepare", daemon=True
        )

    def start(self) -> None:
        self._trouble = None
        self._device.join(self)
        self._preparer.start()
        for stream in range(len(self._held)):
            self._start_device(stream)

    def stop(self, timeout_s: float) -> None:
        """Ends after the batches on the device, or after the timeout; what is left fails. Blocks."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            self._stopping = True
            self._trouble = "the worker stops"
            self._work.notify_all()
            self._room.notify_all()
            self._device.call()
        for thread in (self._preparer, *self._devices.values()):
            if thread.is_alive():
                thread.join(max(0.0, until_s - time.monotonic()))
        self._device.quit(self)
        with self._lock:
            held = [*chain.from_iterable(self._held)]
        self._give_up(_stopped(), held)

    @property
    def trouble(self) -> str | None:
        """Why this worker is not fit for work; None when it is."""
        return self._trouble

    def backlog(self) -> tuple[int, float | None]:
        """Tokens that wait or run, and the measured tokens per second, None before any: of its part
        of the device, where others have work too."""
        with self._lock:
            taken = [*chain.from_iterable(self._held), *self._suspects]
            if self._prepared is not None:
                taken += self._prepared.entries
            tokens = sum(entry.tokens for entry in taken if not entry.resolved)
            speed = self._runner.speed.tokens_per_s
            if speed is not None:
                speed /= self._device.sharers(self)
            return self._queue.tokens + tokens, speed

    def waiting(self, lane: Priority) -> tuple[int, int]:
        """Entries and tokens of a lane that wait in the queue."""
        with self._lock:
            return self._queue.waiting(lane)

    def submit(self, entries: Sequence[Entry]) -> None:
        """Takes entries over."""
        with self._lock:
            refusal = self._refusal()
            if refusal is None:
                self._device.arrive(self)
                for entry in entries:
                    self._queue.append(entry)
                self._call_others()
        if refusal is not None:
            self._runner.fail(entries, refusal)

    def discard(self, entries: Sequence[Entry]) -> None:
        """Nobody waits for these any more; those that are not on the device yet never get there."""
        with self._lock:
            for entry in entries:
                entry.abandoned = True
                self._queue.discard(entry)

    def promote(self, entry: Entry) -> None:
        """An `interactive` request waits for an entry of `bulk`."""
        with self._lock:
            self._queue.promote(entry)

    # what the device asks, under the lock

    @property
    def has_work(self) -> bool:
        waits = len(self._queue) or self._suspects or self._prepared is not None
        return bool(waits) or any(self._turns)

    def claims(self) -> Priority | None:
        if self._stopping or not self._idle:
            return None
        if self._suspects:
            return self._suspects[0].lane
        if self._prepared is not None and not self._overtaken(self._prepared):
            return self._prepared.lane
        return self._queue.next_lane()

    def wake(self) -> None:
        self._work.notify()

    # the device threads

    def _start_device(self, stream: int) -> None:
        thread = threading.Thread(
            target=self._device_loop, args=(stream,), name=f"tureen-device-{stream}", daemon=True
        )
        self._devices[stream] = thread
        thread.start()

    def _device_loop(self, stream: int) -> None:
        try:
            while self._step(stream):
                pass
        except BaseException as error:  # whatever ends the thread, its entries must still resolve
            self._died(stream, error)

    def _step(self, stream: int) -> bool:
        """One batch, or one probe of a device in trouble; False at the end."""
        with self._lock:
            self._leave(stream)
            self._idle += 1
            try:
                prepared = self._wait(stream)
            finally:
                self._idle -= 1
            if self._stopping:
                return False
            if prepared is not None:
                self._held[stream] = prepared.entries
            self._call_others()
        if prepared is None:
            trouble = self._runner.probe(self._probe)
            self._judge(trouble, _PROBE_AGAIN_S)
            return True
        self._runner.expire(prepared.expired)
        outcome = self._runner.run(prepared.entries, prepared.batch)
        if outcome is BatchOutcome.SERVED:
            self._judge(None)
        elif outcome is BatchOutcome.FAILED:
            self._judge("nothing of the last batch could be scored")
        return True

    def _leave(self, stream: int) -> None:
        """Nothing of this thread is on the device any more."""
        self._held[stream] = []
        turn, self._turns[stream] = self._turns[stream], None
        if turn is not None:
            self._device.end(turn)

    def _wait(self, stream: int) -> _Prepared | None:
        """Waits for work; None when a probe is due or the worker stops."""
        while not self._stopping:
            now_ns, wait_s = time.monotonic_ns(), None
            if self._probe_at_ns is not None:
                if now_ns >= self._probe_at_ns:
                    return None
                wait_s = (self._probe_at_ns - now_ns) / 1e9
            prepared = self._take(now_ns) if self._device.admits(self) else None
            if prepared is not None:
                self._last_lane = prepared.lane
                lengths = [entry.tokens for entry in prepared.entries]
                tokens = device_tokens(lengths, self._queue.packs)
                self._queue.charge(prepared.lane, tokens)
                self._turns[stream] = self._device.begin(self, tokens)
                return prepared
            self._call_others()
            self._work.wait(wait_s)
        return None

    def _take(self, now_ns: int) -> _Prepared | None:
        if self._suspects:
            suspect = self._suspects.pop(0)
            return _Prepared([suspect], suspect.lane)
        prepared = self._prepared
        if prepared is not None and not self._overtaken(prepared):
            self._prepared = None
            return prepared
        return self._form(now_ns)

    def _overtaken(self, prepared: _Prepared) -> bool:
        """Whether `interactive` work came after this batch of `bulk` was sealed: it goes first."""
        return (
            prepared.lane is Priority.BULK
            and self._last_lane is Priority.BULK
            and self._queue.waiting(Priority.INTERACTIVE)[0] > 0
        )

    def _form(self, now_ns: int) -> _Prepared | None:
        taken = self._queue.next_batch(now_ns)
        if not taken.entries and not taken.expired:
            return None
        return _Prepared(taken.entries, taken.lane, taken.expired)

    def _judge(self, trouble: str | None, probe_in_s: float = 0.0) -> None:
        """After a batch or a probe: fit, or in trouble until a probe comes through."""
        with self._lock:
            if self._stopping or (trouble is None and self._refusal() is not None):
                return
            self._trouble = trouble
            if trouble is None:
                self._deaths, self._probe_at_ns = 0, None
            else:
                self._probe_at_ns = time.monotonic_ns() + int(probe_in_s * 1e9)

    def _died(self, stream: int, error: BaseException) -> None:
        """What a device thread does last: decides over its entries, and starts its successor."""
        log.error("the device thread died", exc_info=error)
        self._metrics.restarted()
        reason = f"the device thread died of {type(error).__name__}"
        with self._lock:
            self._deaths += 1
            refusal = self._refusal()
            killers = [entry for entry in self._held[stream] if entry.retried]
            for entry in self._held[stream]:
                if not entry.retried:
                    entry.retried = True
                    self._suspects.append(entry)
            self._leave(stream)
            self._judge(reason)
            self._device.call()
        self._runner.fail(killers, BackendFailure(f"{reason} while it ran this; others go on."))
        if refusal is not None:
            self._give_up(refusal)
        else:
            self._start_device(stream)

    def _shrink(self, max_batch_tokens: int) -> int:
        with self._lock:
            self._queue.shrink(max_batch_tokens)
            return self._queue.max_batch_tokens

    # the preparing thread

    def _may_prepare(self) -> bool:
        if self._prepared is not None or not self._queue.saturated:
            return False
        return all(self._held) or not self._device.admits(self)

    def _call_others(self) -> None:
        """Something waits, or nothing more does: whoever can do with that is woken."""
        self._device.call()
        if self._may_prepare():
            self._room.notify()

    def _prepare_loop(self) -> None:
        while True:
            with self._lock:
                while not self._stopping and not self._may_prepare():
                    self._room.wait()
                if self._stopping:
                    return
                prepared = self._prepared = self._form(time.monotonic_ns())
            if prepared is not None and prepared.entries:
                try:
                    prepared.batch = self._runner.collate(prepared.entries)
                except Exception as error:  # the device thread meets it again, and isolates it
                    log.debug("a batch could not be prepared", exc_info=error)

    # any thread

    def _refusal(self) -> TureenError | None:
        """Why entries are not taken any more."""
        if self._stopping:
            return _stopped()
        if self._deaths > self._max_deaths:
            return BackendFailure(
                f"the device thread died {self._deaths} times in a row. Restart the server."
            )
        return None

    def _give_up(self, error: TureenError, held: Sequence[Entry] = ()) -> None:
        """Fails everything that waits, and what is `held` by a device that is not waited for."""
        with self._lock:
            entries = [*held, *self._suspects, *self._queue.drain()]
            if self._prepared is not None:
                entries += self._prepared.entries + self._prepared.expired
            self._suspects, self._prepared = [], None
        self._runner.fail(entries, error)


def _stopped() -> Overloaded:
    return Overloaded(
        "the server is shutting down and did not get to this; send it again.", retry_after_s=1.0
    )
