"""A running service as the oracle of a training run.

A reward is a `Score`, or an `Unscorable` that says why there is none. Splitting, multiplexing, deadlines, retries and
the server's own wait hints are the client's (`tureen.client`); what is added here is patience with an outage, the
order of the samples, and an eye on whose weights gave the scores.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from time import monotonic
from typing import Literal, TypeVar, Unpack

from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.client.surface import IN_FLIGHT, Options, checked
from tureen.contracts import ErrorInfo, ModelInfo, Priority, Sample, Score, ScoreOptions
from tureen.errors import BackendFailure, NotFound, TureenError, from_info, nearest

LOG = logging.getLogger(__name__)

T = TypeVar("T")
OnSwap = Literal["log", "refuse"]

STRIKES = 2
"""Times a ready service may fail at a sample before the sample counts as unscorable."""

_PACE = Retry(max_retries=3)  # of one conversation; the oracle's patience begins where it ends
_OPTIONS = {"model", *(field.name for field in fields(ScoreOptions))}


@dataclass(frozen=True, slots=True)
class Unscorable:
    """Why a sample has no reward: the error of the service. A value, never a number."""

    code: str
    message: str


Reward = Score | Unscorable


class OracleUnavailable(RuntimeError):
    """No answer for longer than the oracle's patience. Nothing was put in the place of a reward."""


class SoupSwapped(RuntimeError):
    """The service scores with other weights than before, and the run refuses that."""


class RemoteOracle:
    """Rewards of a running service.

    with RemoteOracle("localhost:8081", aggregation="worst_case") as oracle:
        rewards = oracle.score(samples)

    Args:
        url: "localhost:8081", "grpc://…" or "grpcs://…" streams over gRPC; "http://…" or "https://…" posts.
        api_key, root_certificates: as of the clients.
        patience_s: how long the service may go without a new answer before `OracleUnavailable`, noticed within
            another `timeout_s`.
        timeout_s: budget of one attempt at a sample.
        on_swap: other weights than those of the last scores are noted and logged, or refused.
        in_flight: samples under way at once.
        options: model, heads, weights, aggregation, penalty, … as of a request; `uncertainty` is on unless said
            otherwise.
    Attributes:
        fingerprint: of the weights that gave the last scores; "" before the first. Set it to that of a checkpoint,
            and a swap since then is noticed.
        swaps: (old, new) as they were noticed.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        root_certificates: str | Path | None = None,
        patience_s: float = 600.0,
        timeout_s: float = 60.0,
        on_swap: OnSwap = "log",
        in_flight: int = IN_FLIGHT,
        **options: Unpack[Options],
    ) -> None:
        if not patience_s > 0:
            raise ValueError(f"patience_s is {patience_s}; give a positive number of seconds")
        if on_swap not in ("log", "refuse"):
            raise ValueError(f"on_swap is {on_swap!r}; give 'log' or 'refuse'")
        for name in options:
            if name not in Options.__annotations__:
                raise ValueError(
                    f"{name!r} is not an option{nearest(name, Options.__annotations__)}"
                )
        options.setdefault("uncertainty", True)
        checked(options)
        kind = RewardClient if url.startswith(("http://", "https://")) else GrpcRewardClient
        self._client = kind(
            url,
            api_key=api_key,
            root_certificates=root_certificates,
            timeout_s=min(timeout_s, patience_s),
            retry=_PACE,
            priority=Priority.BULK,  # a rollout must not keep people waiting
        )
        self.url, self.patience_s, self.on_swap = url, patience_s, on_swap
        self._in_flight, self._options = in_flight, options
        self.fingerprint = ""
        self.swaps: list[tuple[str, str]] = []
        self._closing = threading.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tureen-oracle")

    def submit(self, samples: Sequence[Sample]) -> Future[list[Reward]]:
        """The rewards of samples of one response each, in their order, scored while the caller goes on.

        The future raises `OracleUnavailable`, `SoupSwapped`, or the `TureenError` that would meet every sample.
        """
        asked = tuple(samples)
        for index, sample in enumerate(asked):
            if len(sample.responses) != 1:
                raise ValueError(
                    f"samples[{index}] has {len(sample.responses)} responses; an oracle takes "
                    "samples of exactly one: give a sample for each"
                )
        return self._worker.submit(self._unless_closed, lambda: self._scored(asked))

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        """As `submit`, waited for."""
        return self.submit(samples).result()

    def info(self) -> ModelInfo:
        """What the service says of the reward model."""
        return self._worker.submit(self._unless_closed, self._described).result()

    def close(self) -> None:
        """Abandons what is under way; its futures raise `CancelledError`."""
        self._closing.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def __enter__(self) -> RemoteOracle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _unless_closed(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:  # a client that is closed under way fails in its own ways
            if self._closing.is_set():
                raise CancelledError from error
            raise

    def _described(self) -> ModelInfo:
        patience = _Patience(self)
        while True:
            try:
                return self._client.model(self._options.get("model"))
            except TureenError as error:
                if not error.retryable:
                    raise
                patience.wait([error.info()])

    def _scored(self, samples: Sequence[Sample]) -> list[Reward]:
        patience, ledger = _Patience(self), _Ledger(len(samples))
        while todo := ledger.open():
            passing = self._ask(samples, todo, ledger, patience)
            if passing and self._client.ready():
                ledger.strike(passing)
            if len(ledger.fingerprints()) > 1:  # one batch, one reward model
                ledger.reopen_others(self._described().fingerprint)
            if ledger.open():
                patience.wait(list(passing.values()))
        self._notice(ledger.fingerprints())
        return ledger.rewards()

    def _ask(
        self, samples: Sequence[Sample], todo: Sequence[int], ledger: _Ledger, patience: _Patience
    ) -> dict[int | None, ErrorInfo]:
        """One question for each of `todo`; the errors that time may heal, by sample, None for all of them."""
        passing: dict[int | None, ErrorInfo] = {}
        questions = (samples[index] for index in todo)
        stream = self._client.stream_answers(questions, in_flight=self._in_flight, **self._options)
        try:
            with closing(stream):
                for position, answer in stream:
                    index, [result] = todo[position], answer.results
                    if result.error is None:
                        assert result.scores is not None
                        ledger.scored(index, result.scores[0], answer.fingerprint)
                    elif result.error.retryable:
                        passing[index] = result.error
                    elif _meets_everyone(result.error):
                        raise from_info(result.error)
                    else:
                        ledger.unscorable(index, result.error)
                    patience.renew(ledger.settled())
                    if patience.is_over():
                        break
        except TureenError as error:
            if not error.retryable:
                raise
            passing[None] = error.info()
        return passing

    def _notice(self, fingerprints: set[str]) -> None:
        for new in fingerprints:  # one, or none when nothing was scored
            old = self.fingerprint
            if old and new != old:
                if self.on_swap == "refuse":
                    raise SoupSwapped(
                        f"{self.url} scored with {new}, the scores before came from {old}, and "
                        "on_swap is 'refuse'. The new scores are dropped. Activate the old soup, "
                        "or go on with on_swap 'log'."
                    )
                self.swaps.append((old, new))
                LOG.warning("%s now scores with %s in the place of %s.", self.url, new, old)
            self.fingerprint = new


def _meets_everyone(error: ErrorInfo) -> bool:
    """Whether the fault is in how the oracle was made, not in the sample."""
    if isinstance(from_info(error), NotFound):
        return True
    named = re.match(r"\w+", error.field or "")
    return named is not None and named[0] in _OPTIONS


class _Ledger:
    """What is known of each sample of one batch."""

    def __init__(self, count: int) -> None:
        self._rewards: list[Reward | None] = [None] * count
        self._fingerprints: dict[int, str] = {}
        self._strikes = [0] * count

    def open(self) -> list[int]:
        return [index for index, reward in enumerate(self._rewards) if reward is None]

    def settled(self) -> int:
        return len(self._rewards) - len(self.open())

    def fingerprints(self) -> set[str]:
        return set(self._fingerprints.values())

    def scored(self, index: int, score: Score, fingerprint: str) -> None:
        self._rewards[index], self._fingerprints[index] = score, fingerprint

    def unscorable(self, index: int, error: ErrorInfo) -> None:
        self._rewards[index] = Unscorable(error.code, error.message)

    def strike(self, passing: Mapping[int | None, ErrorInfo]) -> None:
        """A service that is well and yet fails at a sample, again and again, fails because of it."""
        for index, error in passing.items():
            if index is not None and error.code == BackendFailure.code:
                self._strikes[index] += 1
                if self._strikes[index] >= STRIKES:
                    self.unscorable(index, error)

    def reopen_others(self, fingerprint: str) -> None:
        """Forget the scores of other weights than these."""
        for index, other in list(self._fingerprints.items()):
            if other != fingerprint:
                self._rewards[index] = None
                del self._fingerprints[index]

    def rewards(self) -> list[Reward]:
        assert not self.open()
        return [reward for reward in self._rewards if reward is not None]


class _Patience:
    """With one batch: it lasts `patience_s` from the last sample that was settled."""

    def __init__(self, oracle: RemoteOracle) -> None:
        self._oracle = oracle
        self._since_s = monotonic()
        self._most = self._rounds = 0

    def renew(self, settled: int) -> None:
        """More samples are settled than ever before: the service works."""
        if settled > self._most:
            self._most, self._rounds, self._since_s = settled, 0, monotonic()

    def is_over(self) -> bool:
        return self._left_s() <= 0

    def _left_s(self) -> float:
        return self._since_s + self._oracle.patience_s - monotonic()

    def wait(self, errors: Sequence[ErrorInfo]) -> None:
        """Until the service may be asked again.

        Raises:
            OracleUnavailable: there is no patience left.
        """
        hints_s = [error.retry_after_s for error in errors if error.retry_after_s is not None]
        pause_s = _PACE.pause_s(self._rounds, max(hints_s, default=None), random.random())
        last = errors[-1].message if errors else "parts of a batch came from different weights"
        if pause_s >= self._left_s():
            raise OracleUnavailable(
                f"{self._oracle.url} gave no new reward for {monotonic() - self._since_s:.0f} s "
                f"(patience_s {self._oracle.patience_s:g}; last: {last}). No reward was "
                "substituted. Start the service with 'tureen serve' and resume the run."
            )
        if self._rounds == 0:
            LOG.warning("Waiting for rewards of %s: %s", self._oracle.url, last)
        self._rounds += 1
        if self._oracle._closing.wait(pause_s):
            raise CancelledError
