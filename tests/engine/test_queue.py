"""Which entries go together, which go first. No thread, no clock: a time is a number that is passed in."""

import itertools
import random

import pytest
from engine_fakes import entry

from tureen.contracts import Priority
from tureen.engine.queue import RECTANGLE, Queue, best_run, device_tokens, fullest_run

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


def queue(max_batch_tokens: int = 100, max_batch_requests: int = 4, overhead: int = 0) -> Queue:
    return Queue(
        max_batch_tokens=max_batch_tokens,
        max_batch_requests=max_batch_requests,
        overhead_tokens=overhead,
    )


def lengths(taken) -> list[int]:
    return [one.tokens for one in taken.entries]


def efficiency(run: list[int], overhead: int) -> float:
    return sum(run) / (len(run) * max(run) + overhead)


@pytest.mark.parametrize("overhead", [0, 5, 40, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_run_is_as_good_as_trying_them_all(seed, overhead):
    draw = random.Random(seed)
    for _ in range(50):
        row = sorted(draw.randint(1, 60) for _ in range(draw.randint(1, 12)))
        oldest = draw.randrange(len(row))
        tokens, requests = draw.randint(1, 200), draw.randint(1, 6)
        start, end = best_run(
            row,
            oldest,
            max_batch_tokens=tokens,
            max_batch_requests=requests,
            overhead_tokens=overhead,
        )
        allowed = [
            row[i : j + 1]
            for i, j in itertools.product(range(oldest + 1), range(oldest, len(row)))
            if i == j == oldest or ((j - i + 1) * row[j] <= tokens and j - i + 1 <= requests)
        ]
        assert start <= oldest < end
        assert row[start:end] in allowed
        best = max(efficiency(run, overhead) for run in allowed)
        assert efficiency(row[start:end], overhead) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_the_fullest_run_is_as_full_as_trying_them_all(seed):
    draw = random.Random(seed)
    for _ in range(50):
        row = sorted(draw.randint(1, 60) for _ in range(draw.randint(1, 12)))
        oldest = draw.randrange(len(row))
        tokens, requests = draw.randint(1, 200), draw.randint(1, 6)
        start, end = fullest_run(row, oldest, max_batch_tokens=tokens, max_batch_requests=requests)
        allowed = [
            row[i : j + 1]
            for i, j in itertools.product(range(oldest + 1), range(oldest, len(row)))
            if i == j == oldest
            or (
                sum(row[i : j + 1]) <= tokens
                and j - i + 1 <= requests
                and (j - i + 1) * row[j] <= RECTANGLE * tokens
            )
        ]
        assert start <= oldest < end
        assert row[start:end] in allowed
        assert sum(row[start:end]) == max(map(sum, allowed))


def test_without_padding_a_stranger_of_another_length_comes_along():
    waiting = Queue(max_batch_tokens=70, max_batch_requests=4, packs=True)
    for length in (10, 40, 10, 10):
        waiting.append(entry(length=length))
    taken = waiting.next_batch(0)
    assert lengths(taken) == [10, 10, 10, 40]
    assert device_tokens(lengths(taken), packs=True) == 70
    assert device_tokens(lengths(taken), packs=False) == 160


def test_equals_fill_the_batch_and_a_stranger_of_another_length_waits():
    waiting = queue()
    for length in (10, 40, 10, 10):
        waiting.append(entry(length=length))
    # 3 * 10 / (3 * 10) = 1; with the 40 it would be 70 / 160.
    assert lengths(waiting.next_batch(0)) == [10, 10, 10]
    assert lengths(waiting.next_batch(0)) == [40]
    assert lengths(waiting.next_batch(0)) == []


def test_a_costly_forward_pass_makes_padding_worth_while():
    waiting = queue(max_batch_tokens=200, overhead=1000)
    for length in (10, 40, 10):
        waiting.append(entry(length=length))
    # 60 / (3 * 40 + 1000) = 0.054 beats 20 / (2 * 10 + 1000) = 0.020
    assert lengths(waiting.next_batch(0)) == [10, 10, 40]


def test_the_budget_counts_padding():
    waiting = queue(max_batch_tokens=64, overhead=1000)
    for _ in range(5):
        waiting.append(entry(length=20))
    assert lengths(waiting.next_batch(0)) == [20, 20, 20]  # 4 * 20 is above 64


def test_no_more_than_max_batch_requests():
    waiting = queue(max_batch_requests=2)
    for _ in range(3):
        waiting.append(entry(length=1))
    assert [len(waiting.next_batch(0).entries) for _ in range(3)] == [2, 1, 0]


def test_an_entry_above_the_budget_goes_alone():
    waiting = queue(max_batch_tokens=10)
    waiting.append(entry(length=50))
    waiting.append(entry(length=1))
    assert lengths(waiting.next_batch(0)) == [50]
    assert lengths(waiting.next_batch(0)) == [1]


def test_the_oldest_is_in_the_next_batch_whatever_comes_after_it():
    waiting = queue()
    oldest = entry(length=33)
    waiting.append(oldest)
    for _ in range(20):
        waiting.append(entry(length=25))
    assert oldest in waiting.next_batch(0).entries


def test_an_interactive_entry_waits_for_no_batch_of_a_bulk_flood():
    waiting = queue()
    for _ in range(40):
        waiting.append(entry(length=25, lane=BULK))
    running = waiting.next_batch(0)
    waiting.charge(running.lane, 100)
    person = entry(length=25)
    waiting.append(person)
    assert running.lane is BULK  # this one it waits for
    assert waiting.next_batch(0).entries == [person]


def test_lanes_that_both_wait_share_the_tokens():
    waiting = queue(max_batch_tokens=100, max_batch_requests=100)
    for _ in range(200):
        waiting.append(entry(length=50))  # 2 a batch
        waiting.append(entry(length=20, lane=BULK))  # 5 a batch
    served = {BULK: 0, INTERACTIVE: 0}
    for _ in range(20):
        taken = waiting.next_batch(0)
        tokens = sum(lengths(taken))
        waiting.charge(taken.lane, tokens)
        served[taken.lane] += tokens
    assert served == {BULK: 1000, INTERACTIVE: 1000}


def test_bulk_gets_its_share_under_an_interactive_flood():
    waiting = queue()
    bulk = entry(length=25, lane=BULK)
    waiting.append(bulk)
    lanes = []
    for _ in range(3):
        for _ in range(8):
            waiting.append(entry(length=25))
        taken = waiting.next_batch(0)
        waiting.charge(taken.lane, 100)
        lanes.append(taken.lane)
    assert lanes == [INTERACTIVE, BULK, INTERACTIVE]


def test_a_lane_that_was_alone_owes_nothing_later():
    waiting = queue()
    for _ in range(40):
        waiting.append(entry(length=25))
        taken = waiting.next_batch(0)
        waiting.charge(taken.lane, 100)
    waiting.append(entry(length=25))
    waiting.append(entry(length=25, lane=BULK))
    first = waiting.next_batch(0)
    waiting.charge(first.lane, 25)
    assert {first.lane, waiting.next_batch(0).lane} == {BULK, INTERACTIVE}


def test_what_expired_is_dropped_and_reported():
    waiting = queue()
    late, fresh = entry(deadline_ns=10), entry(deadline_ns=11)
    waiting.append(late)
    waiting.append(fresh)
    taken = waiting.next_batch(now_ns=10)
    assert (taken.entries, taken.expired) == ([fresh], [late])
    assert len(waiting) == waiting.tokens == 0


def test_a_queue_of_expired_entries_gives_an_empty_batch():
    waiting = queue(max_batch_requests=1)
    late = [entry(deadline_ns=1), entry(deadline_ns=2, lane=BULK)]
    for one in late:
        waiting.append(one)
    taken = waiting.next_batch(now_ns=5)
    assert taken.entries == []
    assert set(taken.expired) == set(late)


def test_a_discarded_entry_is_gone_at_once():
    waiting = queue()
    here, gone = entry(length=3), entry(length=3)
    for one in (here, gone):
        waiting.append(one)
    assert waiting.discard(gone) is True
    assert waiting.discard(gone) is False
    assert (len(waiting), waiting.tokens) == (1, 3)
    assert waiting.next_batch(0).entries == [here]
    assert waiting.discard(here) is False


def test_a_promoted_entry_changes_lanes():
    waiting = queue()
    one = entry(lane=BULK)
    waiting.append(one)
    waiting.promote(one)
    assert waiting.waiting(BULK) == (0, 0)
    assert waiting.waiting(INTERACTIVE) == (1, 4)
    assert waiting.next_batch(0).lane is INTERACTIVE


def test_promoting_what_has_left_the_queue_puts_nothing_back():
    waiting = queue()
    one = entry(lane=BULK)
    waiting.append(one)
    waiting.next_batch(0)
    waiting.promote(one)
    assert len(waiting) == 0


def test_it_is_saturated_when_more_waits_than_a_batch_holds():
    waiting = queue(max_batch_tokens=20, max_batch_requests=8)
    waiting.append(entry(length=20))
    assert not waiting.saturated
    waiting.append(entry(length=1))
    assert waiting.saturated


def test_a_lower_budget_stays():
    waiting = queue(max_batch_tokens=40)
    waiting.shrink(20)
    waiting.shrink(30)
    assert waiting.max_batch_tokens == 20
    waiting.shrink(0)
    assert waiting.max_batch_tokens == 1


def test_drain_gives_all_oldest_first():
    waiting = queue()
    entries = [entry(lane=lane) for lane in (BULK, INTERACTIVE, BULK)]
    for one in entries:
        waiting.append(one)
    assert waiting.drain() == entries
    assert len(waiting) == 0


def test_every_entry_leaves_exactly_once():
    draw = random.Random(0)
    waiting = queue(max_batch_tokens=300, max_batch_requests=7, overhead=16)
    entries = [
        entry(length=draw.randint(1, 90), lane=draw.choice((BULK, INTERACTIVE))) for _ in range(300)
    ]
    left = []
    for one in entries:
        waiting.append(one)
        if draw.random() < 0.2:
            left += waiting.next_batch(0).entries
    while len(waiting):
        left += waiting.next_batch(0).entries
    assert sorted(map(id, left)) == sorted(map(id, entries))
    assert waiting.tokens == 0
