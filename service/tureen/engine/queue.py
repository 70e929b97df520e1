"""Which entries go to the device next. A pure core: no clock, no thread, no asyncio.

Three rules make a batch.

Fairness: two lanes share the device by tokens. A debt counts how many more (padded) tokens
`interactive` was given than `bulk` while both were waiting; the lane that is behind is next,
`interactive` at a tie (deficit round robin for two lanes). So an entry that finds its lane empty
waits for no batch of the other lane but the one under way.

No starvation: the oldest entry of the lane is always in the lane's next batch.

Little padding: of the runs of sorted lengths that hold the oldest entry, the one that makes the
most of the device,

    maximise   Σ tokens / (B·T + overhead_tokens)

under max_batch_tokens (B·T) and max_batch_requests (B). `overhead_tokens` is what a forward pass
costs beside its tokens: high for a GPU, where a fuller batch is worth some padding; near nothing
for a CPU, where padding is all there is to lose. Where rows are computed without padding it is the run
with most tokens, under the same limits of Σ tokens and B. A single entry above max_batch_tokens goes
alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tureen.contracts import Priority
from tureen.errors import TureenError

if TYPE_CHECKING:
    import numpy as np

    from tureen.text.encoding import Window


RECTANGLE: Final = 4
"""max_batch_tokens that B·T may come to where padding is not computed: it is still collated."""


class Entry:
    """One window of one response, on its way to the device and back.

    The queue reads `tokens`, `lane`, `deadline_ns` and `abandoned`; the worker fills `values` or
    `error`, and the times; `key` and `waiters` belong to whoever made the entry.
    """

    __slots__ = (
        "abandoned",
        "deadline_ns",
        "enqueued_ns",
        "error",
        "forward_ns",
        "key",
        "lane",
        "order",
        "queue_ns",
        "retried",
        "tokens",
        "values",
        "waiters",
        "window",
    )

    def __init__(
        self,
        window: Window,
        *,
        key: bytes = b"",
        lane: Priority = Priority.INTERACTIVE,
        deadline_ns: int | None = None,
        enqueued_ns: int = 0,
    ) -> None:
        self.window = window
        self.tokens: int = window.input_ids.size
        self.key = key
        self.lane = lane
        self.deadline_ns = deadline_ns
        self.enqueued_ns = enqueued_ns
        self.order = -1  # place in the queue; -1 while it is not in one
        self.abandoned = False
        self.retried = False
        self.values: np.ndarray | None = None  # (N, G, H) float32
        self.error: TureenError | None = None
        self.queue_ns = 0
        self.forward_ns = 0
        self.waiters: list[Any] = []

    @property
    def resolved(self) -> bool:
        return self.values is not None or self.error is not None

    def expired(self, now_ns: int) -> bool:
        return self.deadline_ns is not None and self.deadline_ns <= now_ns


class Taken(NamedTuple):
    """entries: shortest first; none when nothing waits. expired: dropped on the way."""

    entries: list[Entry]
    expired: list[Entry]
    lane: Priority


class Queue:
    """Waiting entries. Not thread-safe: the worker holds its lock around every call.

    packs: the device computes no padding.
    """

    def __init__(
        self,
        *,
        max_batch_tokens: int,
        max_batch_requests: int,
        overhead_tokens: int = 0,
        packs: bool = False,
    ) -> None:
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_requests = max_batch_requests
        self.overhead_tokens = overhead_tokens
        self.packs = packs
        self._lanes = {lane: _Lane() for lane in Priority}
        self._orders = 0
        self._debt = 0

    def __len__(self) -> int:
        return sum(len(lane.by_age) for lane in self._lanes.values())

    @property
    def tokens(self) -> int:
        return sum(lane.tokens for lane in self._lanes.values())

    def waiting(self, lane: Priority) -> tuple[int, int]:
        """Entries and tokens of a lane."""
        return len(self._lanes[lane].by_age), self._lanes[lane].tokens

    @property
    def saturated(self) -> bool:
        """More waits than one batch can hold: to form it now loses nothing."""
        return self.tokens > self.max_batch_tokens or len(self) > self.max_batch_requests

    def append(self, entry: Entry) -> None:
        self._orders += 1
        entry.order = self._orders
        self._lanes[entry.lane].add(entry)

    def discard(self, entry: Entry) -> bool:
        """Takes an entry out; False when it is not here (any more)."""
        if entry.order < 0:
            return False
        self._lanes[entry.lane].remove(entry)
        return True

    def promote(self, entry: Entry) -> None:
        """Moves an entry of `bulk`, wherever it is, to `interactive`: someone waits for it now."""
        if entry.lane is Priority.INTERACTIVE:
            return
        waits = self.discard(entry)
        entry.lane = Priority.INTERACTIVE
        if waits:
            self.append(entry)

    def shrink(self, max_batch_tokens: int) -> None:
        """Lowers the budget for good: the device said that it is too high."""
        self.max_batch_tokens = max(1, min(self.max_batch_tokens, max_batch_tokens))

    def next_lane(self) -> Priority | None:
        """Whose batch `next_batch` would form; None when nothing waits."""
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        if interactive.by_age and bulk.by_age:
            return Priority.INTERACTIVE if self._debt <= 0 else Priority.BULK
        self._debt = 0  # a lane without competition owes nothing
        if interactive.by_age:
            return Priority.INTERACTIVE
        return Priority.BULK if bulk.by_age else None

    def next_batch(self, now_ns: int) -> Taken:
        """Forms the next batch and removes it from the queue."""
        expired: list[Entry] = []
        lane = self.next_lane()
        while lane is not None:
            entries: list[Entry] = []
            for entry in self._run(self._lanes[lane]):
                (expired if entry.expired(now_ns) else entries).append(entry)
            if entries:
                return Taken(entries, expired, lane)
            lane = self.next_lane()
        return Taken([], expired, Priority.INTERACTIVE)

    def charge(self, lane: Priority, tokens: int) -> None:
        """A batch of this lane goes to the device, `device_tokens`; says so before the next one is
        formed."""
        self._debt += tokens if lane is Priority.INTERACTIVE else -tokens

    def drain(self) -> list[Entry]:
        """Everything that waits, oldest first; the queue is empty afterwards."""
        entries = [entry for lane in self._lanes.values() for entry in lane.by_age.values()]
        entries.sort(key=lambda entry: entry.order)
        for entry in entries:
            self.discard(entry)
        return entries

    def _run(self, lane: _Lane) -> list[Entry]:
        oldest = next(iter(lane.by_age.values()))
        position = bisect_left(lane.by_length, (oldest.tokens, oldest.order))
        first = max(0, position - self.max_batch_requests + 1)
        near = lane.by_length[first : position + self.max_batch_requests]
        lengths = [tokens for tokens, _, _ in near]
        limits = {
            "max_batch_tokens": self.max_batch_tokens,
            "max_batch_requests": self.max_batch_requests,
        }
        start, end = (
            fullest_run(lengths, position - first, **limits)
            if self.packs
            else best_run(lengths, position - first, **limits, overhead_tokens=self.overhead_tokens)
        )
        entries = [entry for _, _, entry in near[start:end]]
        del lane.by_length[first + start : first + end]
        for entry in entries:
            lane.forget(entry)
        return entries


def device_tokens(lengths: Sequence[int], packs: bool) -> int:
    """Of rows in one batch: B·T, or without padding Σ lengths."""
    return sum(lengths) if packs else len(lengths) * max(lengths, default=0)


class _Lane:
    """The same entries twice: by length for `best_run`, by age for fairness."""

    def __init__(self) -> None:
        self.by_length: list[tuple[int, int, Entry]] = []  # (tokens, order, entry), ascending
        self.by_age: OrderedDict[int, Entry] = OrderedDict()
        self.tokens = 0

    def add(self, entry: Entry) -> None:
        insort(self.by_length, (entry.tokens, entry.order, entry))
        self.by_age[entry.order] = entry
        self.tokens += entry.tokens

    def remove(self, entry: Entry) -> None:
        del self.by_length[bisect_left(self.by_length, (entry.tokens, entry.order))]
        self.forget(entry)

    def forget(self, entry: Entry) -> None:
        del self.by_age[entry.order]
        self.tokens -= entry.tokens
        entry.order = -1


def best_run(
    lengths: Sequence[int],
    oldest: int,
    *,
    max_batch_tokens: int,
    max_batch_requests: int,
    overhead_tokens: int,
) -> tuple[int, int]:
    """The run [start, end) of lengths that holds `oldest` and makes the most of the device.

    Maximises Σ lengths / (rows · longest + overhead_tokens). For a given longest row, a shorter one
    is worth its padding as long as its share of useful tokens is above that of the run so far,

        length / longest > Σ lengths / (rows · longest + overhead_tokens),

    so the best start is found by climbing, and from one longest row to the next it moves little. Of
    two runs that are equally good the fuller one is taken.

    Args:
        lengths: ascending.
        oldest: index of the entry that must be in the run.
    """
    best, best_useful, best_cost = (oldest, oldest + 1), 0, 1
    start, useful = oldest, 0
    for end in range(oldest + 1, len(lengths) + 1):
        longest = lengths[end - 1]
        most = max(1, min(max_batch_requests, max_batch_tokens // longest))
        if end - oldest > most:
            break
        useful += longest
        while end - start > most:
            useful -= lengths[start]
            start += 1
        cost = (end - start) * longest + overhead_tokens
        while start > 0 and end - start < most and lengths[start - 1] * cost >= useful * longest:
            start -= 1
            useful += lengths[start]
            cost += longest
        while start < oldest and lengths[start] * cost < useful * longest:
            useful -= lengths[start]
            start += 1
            cost -= longest
        if useful * best_cost >= best_useful * cost:
            best, best_useful, best_cost = (start, end), useful, cost
    return best


def fullest_run(
    lengths: Sequence[int], oldest: int, *, max_batch_tokens: int, max_batch_requests: int
) -> tuple[int, int]:
    """The run [start, end) of lengths that holds `oldest` and has most tokens, under the limits of Σ
    lengths and rows; of equally full ones the longer rows. The rectangle of a batch is bounded too.

    Args:
        lengths: ascending.
        oldest: index of the entry that must be in the run.
    """
    best, most = (oldest, oldest + 1), 0
    start, tokens = 0, sum(lengths[:oldest])
    for end in range(oldest + 1, len(lengths) + 1):
        longest = lengths[end - 1]
        tokens += longest
        rows = min(max_batch_requests, RECTANGLE * max_batch_tokens // longest)
        while start < oldest and (tokens > max_batch_tokens or end - start > rows):
            tokens -= lengths[start]
            start += 1
        if end > oldest + 1 and (tokens > max_batch_tokens or end - start > rows):
            break
        if tokens >= most:
            best, most = (start, end), tokens
    return best
