"""What happens to a batch, with backends that fail by script."""

import numpy as np
import pytest
from engine_fakes import Delivered, FakeBackend, echo, entry, model_metrics, window

from tureen.engine.backend import BatchTooLarge
from tureen.engine.metrics import Metrics
from tureen.engine.runner import BatchOutcome, Runner, Speed
from tureen.errors import BackendFailure, DeadlineExceeded

POISON = 13


class Budget:
    """Stands for the queue: takes every lower budget."""

    def __init__(self) -> None:
        self.tokens = [10**6]

    def shrink(self, tokens: int) -> int:
        self.tokens.append(min(self.tokens[-1], tokens))
        return self.tokens[-1]


def run(script, entries, budget=None, metrics=None):
    backend, delivered = FakeBackend(script), Delivered()
    shrink = (budget or Budget()).shrink
    runner = Runner(backend, delivered, shrink, model_metrics(metrics), pad_id=0)
    outcome = runner.run(entries, None)
    return outcome, backend, delivered


def values_of(entries):
    return [None if one.values is None else one.values.item() for one in entries]


def raise_on_poison(batch):
    if POISON in batch.input_ids[:, 0]:
        raise RuntimeError("poisoned")
    return echo(batch)


def nan_on_poison(batch):
    values = echo(batch).copy()
    values[batch.input_ids[:, 0] == POISON] = np.nan
    return values


def nan_for_all_near_poison(batch):
    values = echo(batch).copy()
    if POISON in batch.input_ids[:, 0]:
        values[:] = np.inf
    return values


def test_a_good_batch_is_one_pass_and_one_delivery():
    entries = [entry(token, length=token) for token in (1, 2, 3)]
    deliveries = []
    runner = Runner(FakeBackend(), deliveries.append, Budget().shrink, model_metrics(), pad_id=0)
    assert runner.run(entries, runner.collate(entries)) is BatchOutcome.SERVED
    assert deliveries == [entries]
    assert values_of(entries) == [1.0, 2.0, 3.0]
    assert runner.speed.tokens_per_s is not None
    assert runner.speed.tokens_per_s > 0
    assert all(one.forward_ns > 0 for one in entries)


def test_the_speed_counts_time_once_in_which_two_batches_ran():
    speed = Speed()
    assert speed.tokens_per_s is None
    speed.add(100, 0, 1_000_000_000)
    assert speed.tokens_per_s == 100
    speed.add(100, 500_000_000, 1_500_000_000)  # of its second, half is counted already
    assert speed.tokens_per_s == pytest.approx((0.8 * 100 + 100) / (0.8 * 1 + 0.5))


def test_an_entry_gets_the_values_of_its_own_units_and_not_a_view_of_the_batch():
    entries = [entry(1), entry(2)]
    entries[1].window = window(2, units=3)
    run(echo, entries)
    values = [one.values for one in entries if one.values is not None]
    assert [some.shape for some in values] == [(1, 1, 1), (3, 1, 1)]
    assert all(some.base is None for some in values)


@pytest.mark.parametrize("script", [raise_on_poison, nan_on_poison, nan_for_all_near_poison])
@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_poisoned_entry_fails_alone(script, place):
    tokens = [20 + number for number in range(8)]
    tokens[place] = POISON
    entries = [entry(token) for token in tokens]
    outcome, backend, delivered = run(script, entries)
    assert outcome is BatchOutcome.SERVED
    assert sorted(map(id, delivered.entries)) == sorted(map(id, entries))
    for one, token in zip(entries, tokens, strict=True):
        if token == POISON:
            assert isinstance(one.error, BackendFailure)
            assert one.values is None
        else:
            assert values_of([one]) == [token]
    assert backend.seen[-1] == [POISON] or [POISON] in backend.seen


def test_rows_that_are_finite_are_not_run_again():
    metrics = Metrics()
    entries = [entry(token) for token in (1, POISON, 2)]
    _, backend, _ = run(nan_on_poison, entries, metrics=metrics)
    # in the whole batch, and once more alone
    assert 'tureen_nonfinite_entries_total{model="fake"} 2.0' in metrics.render().decode()
    assert backend.seen == [[1, POISON, 2], [POISON]]


def test_padding_may_be_anything():
    """What a backend says of units that a row does not have is never read."""

    def nan_in_padding(batch):
        values = echo(batch).copy()
        values[batch.span_weights.sum(axis=2) == 0] = np.nan
        return values

    entries = [entry(1), entry(2)]
    entries[1].window = window(2, units=3)
    outcome, backend, _ = run(nan_in_padding, entries)
    assert outcome is BatchOutcome.SERVED
    assert len(backend.seen) == 1


def test_the_message_names_what_happened_and_no_content():
    entries = [entry(POISON)]
    outcome, _, _ = run(raise_on_poison, entries)
    assert outcome is BatchOutcome.FAILED
    message = str(entries[0].error)
    assert "RuntimeError" in message
    assert "4 tokens" in message
    assert "poisoned" not in message  # what an exception says may hold what it was given


def test_a_wrong_shape_is_a_failure():
    entries = [entry(1)]
    outcome, _, _ = run(lambda batch: echo(batch)[:, :, :, 0], entries)
    assert outcome is BatchOutcome.FAILED
    assert isinstance(entries[0].error, BackendFailure)


def test_out_of_memory_halves_the_batch_and_the_budget_for_good():
    def at_most_two_rows(batch):
        if batch.rows > 2:
            raise BatchTooLarge("no memory")
        return echo(batch)

    budget, metrics = Budget(), Metrics()
    entries = [entry(token, length=10) for token in range(1, 9)]
    outcome, backend, _ = run(at_most_two_rows, entries, budget, metrics)
    assert outcome is BatchOutcome.SERVED
    assert values_of(entries) == list(range(1, 9))
    assert [len(rows) for rows in backend.seen] == [8, 4, 2, 2, 4, 2, 2]
    assert budget.tokens[-1] == 20  # 2 rows of 10
    assert 'tureen_max_batch_tokens{model="fake"} 20.0' in metrics.render().decode()


def test_a_single_row_that_is_too_large_fails_alone():
    def short_rows_only(batch):
        if batch.input_ids.shape[1] > 5:
            raise BatchTooLarge("no memory")
        return echo(batch)

    entries = [entry(1, length=5), entry(2, length=6), entry(3, length=5)]
    outcome, _, _ = run(short_rows_only, entries)
    assert outcome is BatchOutcome.SERVED
    assert values_of(entries) == [1.0, None, 3.0]
    assert "out of memory" in str(entries[1].error)


def test_who_has_left_or_is_late_never_reaches_the_device():
    left, late, here = entry(1), entry(2, deadline_ns=0), entry(3)
    left.abandoned = True
    outcome, backend, delivered = run(echo, [left, late, here])
    assert outcome is BatchOutcome.SERVED
    assert backend.seen == [[3]]
    assert delivered.entries == [late, here]
    assert isinstance(late.error, DeadlineExceeded)
    assert left.error is None


def test_a_batch_that_nobody_waits_for_is_not_run():
    left = entry(1)
    left.abandoned = True
    outcome, backend, _ = run(echo, [left])
    assert outcome is BatchOutcome.EMPTY
    assert backend.seen == []


@pytest.mark.parametrize(
    ("script", "trouble"),
    [(echo, None), (raise_on_poison, "RuntimeError"), (nan_on_poison, "non-finite")],
)
def test_a_probe_says_what_is_wrong(script, trouble):
    runner = Runner(FakeBackend(script), Delivered(), Budget().shrink, model_metrics(), pad_id=0)
    said = runner.probe(window(POISON))
    assert said is None if trouble is None else trouble in (said or "")
