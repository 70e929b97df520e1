"""Clients that ask a server without a pause, and check that every answer is one of a single soup."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from held_engine import rewards
from server_process import Loopback

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.contracts import Sample


class Asking:
    """answered: requests by the fingerprint in their answer, so far. pace_s: between two requests
    of a client, which a test may change."""

    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        self.answered: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, fingerprint: str) -> None:
        with self._lock:
            self.answered[fingerprint] += 1


@contextmanager
def asked_all_the_time(
    server: Loopback,
    samples: Sequence[Sample],
    expected: Mapping[str, Sequence[Sequence[float] | None]],
    *,
    api_key: str | None = None,
    retry: Retry | None = None,
    pace_s: float = 0.0,
) -> Iterator[Asking]:
    """Three clients at each door. At the end of the block every request that was sent is answered,
    with the numbers of exactly the soup that its answer names; fails where one is not.

    Args:
        expected: by fingerprint, the rewards of each sample.
    """
    done, asking = threading.Event(), Asking(pace_s)

    def ask(kind: type, at: str, first: int) -> int:
        count = 0
        with kind(at, api_key=api_key, retry=retry) as client:
            while not done.wait(asking.pace_s):
                place = (first + count) % len(samples)
                answer = client.score_samples([samples[place]])
                known = expected[answer.fingerprint][place]
                assert rewards(answer) == [pytest.approx(known, abs=1e-5)]
                asking.count(answer.fingerprint)
                count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        clients = [
            pool.submit(ask, kind, at, first)
            for first in range(3)
            for kind, at in ((RewardClient, server.url), (GrpcRewardClient, server.target))
        ]
        try:
            yield asking
        finally:
            done.set()
        counts = [one.result() for one in clients]
    assert all(counts)
    assert sum(counts) == asking.answered.total()
