"""Workers of several models on one device: whose batches it runs, in which order, how many at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from engine_fakes import Delivered, FakeBackend, Gate, entry, model_metrics, wait_until, window

from tureen.contracts import Priority
from tureen.engine.device import Device
from tureen.engine.queue import Queue
from tureen.engine.shares import Shares
from tureen.engine.worker import Worker
from tureen.text.batch import Batch

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE
PATIENCE_S = 30.0


class Clock:
    """Stands still but for what the batches take."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Shared:
    """A device and what it ran: the first token of each batch."""

    def __init__(self, borrow_s: float = 0.0) -> None:
        self.clock = Clock()
        self.device = Device(Shares(borrow_s), self.clock)
        self.ran: list[int] = []
        self.gate = Gate(self._script)
        self.delivered = Delivered()
        self.workers: list[Worker] = []

    def worker(self, model: str, seconds: float = 1.0, *, streams: int = 1, script=None) -> Worker:
        """Batches of one row; each takes so many seconds of the clock."""

        def run(batch: Batch) -> np.ndarray:
            values = self.gate(batch)
            self.clock.now_s += seconds
            return values if script is None else script(batch)

        worker = Worker(
            FakeBackend(run),
            Queue(max_batch_tokens=4, max_batch_requests=1),
            self.delivered,
            model_metrics(),
            probe=window(99),
            model=model,
            device=self.device,
            streams=streams,
        )
        self.workers.append(worker)
        worker.start()
        return worker

    def _script(self, batch: Batch) -> np.ndarray:
        self.ran.append(int(batch.input_ids[0, 0]))
        rows, units, _ = batch.span_weights.shape
        return np.ones((rows, units, 1, 1), np.float32)

    @property
    def order(self) -> str:
        return "".join(chr(ord("a") + token // 10 - 1) for token in self.ran)


@contextmanager
def shared(**options: float) -> Iterator[Shared]:
    made = Shared(**options)
    try:
        yield made
    finally:
        made.gate.open()
        for worker in made.workers:
            worker.stop(PATIENCE_S)


def test_batches_of_two_models_alternate_by_the_time_they_take():
    with shared() as one:
        a, b = one.worker("a", 3.0), one.worker("b", 1.0)
        a.submit([entry(10, lane=BULK)])
        one.gate.wait_until_entered()  # a has the device; all the rest waits for its turn
        a.submit([entry(10, lane=BULK) for _ in range(2)])
        b.submit([entry(20, lane=BULK) for _ in range(6)])
        one.gate.open()
        one.delivered.wait_for(9)
        # b comes when a has the device, with an estimate of nothing yet: both stand at 0; a ends at 3.
        assert one.order == "abbbabbba"


def test_interactive_work_of_one_model_goes_before_the_bulk_of_another():
    with shared(borrow_s=10.0) as one:
        a, b = one.worker("a"), one.worker("b")
        a.submit([entry(10, lane=BULK)])
        one.gate.wait_until_entered()
        a.submit([entry(10, lane=BULK) for _ in range(2)])
        b.submit([entry(20, lane=INTERACTIVE) for _ in range(3)])
        one.gate.open()
        one.delivered.wait_for(6)
        assert one.order == "abbbaa"


@pytest.mark.parametrize("streams", [1, 2])
def test_a_second_model_brings_no_more_batches_to_the_device(streams: int):
    with shared() as one:
        a, b = (one.worker(name, streams=streams) for name in "ab")
        a.submit([entry(10) for _ in range(4)])
        b.submit([entry(20) for _ in range(4)])
        for _ in range(streams):
            one.gate.wait_until_entered()
        assert one.gate.rows == streams
        with one.device.lock:
            waiting = [worker.waiting(INTERACTIVE)[0] for worker in (a, b)]
            prepared = [worker._prepared is not None for worker in (a, b)]
        assert sum(waiting) + sum(prepared) == 8 - streams
        one.gate.open()
        one.delivered.wait_for(8)


def test_a_model_that_fails_is_charged_and_the_other_goes_on():
    def broken(batch: Batch) -> np.ndarray:
        raise RuntimeError("broken")

    with shared() as one:
        one.gate.open()
        a, b = one.worker("a", script=broken), one.worker("b")
        a.submit([entry(10) for _ in range(3)])
        b.submit([entry(20) for _ in range(3)])
        entries = one.delivered.wait_for(6)
        assert [one.error is None for one in entries if one.window.input_ids[0] == 20] == [True] * 3
        assert [one.error is None for one in entries if one.window.input_ids[0] == 10] == [
            False
        ] * 3
        assert b.trouble is None


def test_a_model_whose_thread_dies_gives_its_place_back():
    def deadly(batch: Batch) -> np.ndarray:
        raise SystemExit("dead")

    with shared() as one:
        one.gate.open()
        a, b = one.worker("a", script=deadly), one.worker("b")
        a.submit([entry(10)])
        wait_until(lambda: a.trouble is not None, "the thread to die")
        b.submit([entry(20) for _ in range(3)])
        wait_until(
            lambda: sum(one.values is not None for one in one.delivered.entries) == 3,
            "the other model's batches",
        )


def test_a_worker_that_stops_leaves_the_device_to_the_others():
    with shared() as one:
        a, b = one.worker("a"), one.worker("b")
        a.submit([entry(10)])
        one.gate.wait_until_entered()
        b.submit([entry(20)])
        stopping = threading.Thread(target=a.stop, args=(0.01,))  # its batch hangs
        stopping.start()
        stopping.join(PATIENCE_S)
        one.gate.wait_until_entered()  # b's
        one.gate.open()
        one.delivered.wait_for(2)


def test_what_is_told_to_callers_is_the_part_of_a_model():
    with shared() as one:
        a, b = one.worker("a"), one.worker("b")
        one.gate.open(1)
        a.submit([entry(10)])
        one.delivered.wait_for(1)
        wait_until(lambda: not a.has_work, "the place to be free")
        _, alone = a.backlog()
        b.submit([entry(20)])
        one.gate.wait_until_entered()
        one.gate.wait_until_entered()
        _, shared_speed = a.backlog()
        assert alone is not None
        assert shared_speed == alone / 2
