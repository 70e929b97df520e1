"""The device threads. Tests wait for events, with a long patience, and never sleep."""

import threading

import numpy as np
import pytest
from engine_fakes import (
    PATIENCE_S,
    Delivered,
    FakeBackend,
    Gate,
    echo,
    entry,
    model_metrics,
    wait_until,
    window,
)

from tureen.contracts import Priority
from tureen.engine.metrics import Metrics
from tureen.engine.queue import Queue
from tureen.engine.worker import Worker
from tureen.errors import BackendFailure, Overloaded

PROBE, KILLER = 99, 13


class Rig:
    """A worker, what it is made of, and what it delivered."""

    def __init__(
        self, script=echo, max_batch_tokens=8, max_batch_requests=8, max_deaths=3, streams=1
    ):
        self.backend = FakeBackend(script)
        self.delivered = Delivered()
        self.metrics = Metrics()
        queue = Queue(max_batch_tokens=max_batch_tokens, max_batch_requests=max_batch_requests)
        self.worker = Worker(
            self.backend,
            queue,
            self.delivered,
            model_metrics(self.metrics),
            probe=window(PROBE),
            max_deaths=max_deaths,
            streams=streams,
        )
        self.worker.start()

    def counted(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"model": "fake"})


@pytest.fixture
def rig():
    rigs = []

    def build(*args, **kwargs) -> Rig:
        rigs.append(Rig(*args, **kwargs))
        return rigs[-1]

    yield build
    for one in rigs:
        one.worker.stop(PATIENCE_S)


def test_every_entry_comes_back(rig):
    one = rig()
    entries = [entry(token, length=1 + token % 5) for token in range(1, 51)]
    one.worker.submit(entries)
    one.delivered.wait_for(50)
    values = [e.values for e in entries if e.values is not None]
    assert [some.item() for some in values] == list(range(1, 51))
    assert one.worker.trouble is None
    assert one.worker.backlog()[0] == 0


def test_what_comes_while_the_device_is_busy_goes_together(rig):
    gate = Gate()
    one = rig(gate)
    one.worker.submit([entry(1)])
    gate.wait_until_entered()
    for token in (2, 3):
        one.worker.submit([entry(token)])
    gate.open(2)
    one.delivered.wait_for(3)
    assert one.backend.seen == [[1], [2, 3]]


def test_a_saturated_queue_is_served_in_full(rig):
    gate = Gate()
    one = rig(gate)
    one.worker.submit([entry(token) for token in range(1, 10)])  # 4 batches of 2 and one of 1
    gate.wait_until_entered()
    gate.open(20)
    one.delivered.wait_for(9)
    assert sorted(token for rows in one.backend.seen for token in rows) == list(range(1, 10))


def test_an_interactive_entry_overtakes_a_bulk_flood_even_one_that_is_prepared(rig):
    gate = Gate()
    one = rig(gate)
    bulk = [entry(token, lane=Priority.BULK) for token in range(1, 12)]
    one.worker.submit(bulk)
    gate.wait_until_entered()
    one.worker.submit([entry(50)])
    gate.open(20)
    one.delivered.wait_for(12)
    assert one.backend.seen[1] == [50]


def test_a_second_stream_runs_a_batch_while_the_first_has_one(rig):
    gate = Gate()
    one = rig(gate, streams=2)
    for token in (1, 2, 3, 4):  # 3 and 4 find both streams busy
        one.worker.submit([entry(token)])
        if token < 3:
            gate.wait_until_entered()
    assert one.worker.backlog() == (16, None)
    gate.open(3)
    one.delivered.wait_for(4)
    assert one.backend.seen == [[1], [2], [3, 4]]
    assert one.worker.backlog()[0] == 0


def test_what_one_batch_cannot_hold_wakes_the_other_stream(rig):
    gate = Gate()
    one = rig(gate, streams=2)
    one.worker.submit([entry(1, length=8), entry(2, length=8)])
    gate.wait_until_entered()
    gate.wait_until_entered()
    gate.open(2)
    one.delivered.wait_for(2)


def test_a_discarded_entry_never_reaches_the_device(rig):
    gate = Gate()
    one = rig(gate)
    one.worker.submit([entry(1)])
    gate.wait_until_entered()
    gone, here = entry(2), entry(3)
    one.worker.submit([gone, here])
    one.worker.discard([gone])
    gate.open(2)
    one.delivered.wait_for(2)
    assert one.backend.seen == [[1], [3]]
    assert one.worker.backlog()[0] == 0


def test_the_backlog_counts_what_waits_and_what_runs(rig):
    gate = Gate()
    one = rig(gate)
    one.worker.submit([entry(1)])
    gate.wait_until_entered()
    one.worker.submit([entry(2)])
    assert one.worker.backlog() == (8, None)
    assert one.worker.waiting(Priority.INTERACTIVE) == (1, 4)
    gate.open(2)
    one.delivered.wait_for(2)
    tokens, tokens_per_s = one.worker.backlog()
    assert tokens == 0
    assert tokens_per_s is not None


def dies_of_killer(batch):
    if KILLER in batch.input_ids[:, 0]:
        raise SystemExit  # not an Exception: ends the thread
    return echo(batch)


def test_a_thread_that_dies_is_replaced_and_only_its_killer_fails(rig):
    gate = Gate(dies_of_killer)
    one = rig(gate, max_batch_tokens=100)
    one.worker.submit([entry(1)])
    gate.wait_until_entered()
    entries = [entry(2), entry(KILLER), entry(3)]
    one.worker.submit(entries)
    gate.open(20)
    one.delivered.wait_for(4)
    assert [e.values is not None for e in entries] == [True, False, True]
    assert isinstance(entries[1].error, BackendFailure)
    assert entries[1].error.retryable
    later = entry(4)
    one.worker.submit([later])
    one.delivered.wait_for(5)
    assert later.values is not None
    assert one.counted("tureen_worker_restarts_total") == 2  # in the crowd, and alone
    assert one.worker.trouble is None


def test_a_thread_that_dies_leaves_the_batch_of_the_other_stream_alone(rig):
    gate = Gate()

    def script(batch):
        if batch.input_ids[0, 0] in (KILLER, PROBE):
            raise SystemExit
        return gate(batch)

    one = rig(script, streams=2, max_deaths=1)
    held, killer = entry(1), entry(KILLER)
    one.worker.submit([held])
    gate.wait_until_entered()
    one.worker.submit([killer])
    one.delivered.wait_for(1)  # a death more than may be: of the killer, and of the probe
    assert isinstance(killer.error, BackendFailure)
    assert not held.resolved
    gate.open(1)
    one.delivered.wait_for(2)
    assert held.values is not None
    assert "died" in (one.worker.trouble or "")  # a batch that is served late changes nothing
    refused = entry(2)
    one.worker.submit([refused])
    assert isinstance(refused.error, BackendFailure)


def test_a_thread_that_goes_on_dying_fails_everything_and_takes_no_more(rig):
    def dies(batch):
        raise SystemExit

    one = rig(dies, max_deaths=2)
    entries = [entry(1), entry(2), entry(3)]
    one.worker.submit(entries)
    one.delivered.wait_for(3)
    assert all(isinstance(e.error, BackendFailure) for e in entries)
    assert "died" in (one.worker.trouble or "")
    refused = entry(4)
    one.worker.submit([refused])
    assert isinstance(refused.error, BackendFailure)
    assert one.counted("tureen_worker_restarts_total") == 3


def test_the_worker_is_in_trouble_between_a_death_and_a_good_probe(rig):
    probes = Gate()

    def script(batch):
        return probes(batch) if batch.input_ids[0, 0] == PROBE else dies_of_killer(batch)

    one = rig(script)
    one.worker.submit([entry(KILLER)])
    probes.wait_until_entered()  # the successor probes before it does anything else
    assert "SystemExit" in (one.worker.trouble or "")
    probes.open(2)
    one.delivered.wait_for(1)
    probes.wait_until_entered()
    after = entry(1)
    one.worker.submit([after])
    one.delivered.wait_for(2)
    assert one.worker.trouble is None


def test_a_poisoned_entry_alone_does_not_make_the_device_unfit(rig):
    """Nothing of its batch could be scored; a good window tells that the device is fine."""

    def script(batch):
        if KILLER in batch.input_ids[:, 0]:
            raise ValueError
        return echo(batch)

    one = rig(script)
    poisoned = entry(KILLER)
    one.worker.submit([poisoned])
    one.delivered.wait_for(1)
    after = entry(1)
    one.worker.submit([after])
    one.delivered.wait_for(2)
    assert one.worker.trouble is None
    assert one.backend.seen == [[KILLER], [PROBE], [1]]


def test_a_device_that_fails_is_in_trouble_until_it_recovers(rig):
    broken = [True]
    probes = Gate()

    def script(batch):
        if batch.input_ids[0, 0] == PROBE:
            probes(batch)
        return np.full((batch.rows, 1, 1, 1), np.nan if broken[0] else 1.0, np.float32)

    one = rig(script)
    one.worker.submit([entry(1)])
    one.delivered.wait_for(1)
    probes.wait_until_entered()
    assert one.worker.trouble is not None
    broken[0] = False
    probes.open(10)
    after = entry(2)
    one.worker.submit([after])
    one.delivered.wait_for(2)
    assert one.worker.trouble is None


def test_stop_lets_the_batch_on_the_device_finish_and_fails_the_rest(rig):
    gate = Gate()
    one = rig(gate, max_batch_requests=1)
    entries = [entry(token) for token in range(1, 5)]
    one.worker.submit(entries)
    gate.wait_until_entered()
    stopping = threading.Thread(target=one.worker.stop, args=(PATIENCE_S,))
    stopping.start()
    wait_until(lambda: one.worker.trouble is not None, "the worker to be told")
    gate.open(1)
    stopping.join()
    assert entries[0].values is not None
    assert all(isinstance(e.error, Overloaded) for e in entries[1:])
    refused = entry(9)
    one.worker.submit([refused])
    assert isinstance(refused.error, Overloaded)


def test_stop_gives_up_on_a_device_that_hangs(rig):
    gate = Gate()
    one = rig(gate)
    hanging = entry(1)
    one.worker.submit([hanging])
    gate.wait_until_entered()
    one.worker.stop(0.01)
    assert isinstance(hanging.error, Overloaded)
    gate.open(1)
