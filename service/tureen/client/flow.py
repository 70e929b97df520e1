"""The conversation of a client with a service, as generators without a socket.

`Flow.score` and its sisters yield what is to be done (`Send` these calls, `Wait` so long), are
sent what came of it, and return the answer. Synchronous and asynchronous clients over HTTP and
gRPC drive the same generators, so splitting, retries, deadlines and merging exist once.

A call is answered by a contract or by a `TureenError`, which is a value here. Nothing is ever put
in the place of a reward: a sample keeps its error, or the flow raises.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

from tureen.client.parts import Ledger, pack, split
from tureen.contracts import (
    CreateSoupRequest,
    ModelInfo,
    ModelList,
    RankRequest,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
    SoupInfo,
    SoupList,
)
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InvalidRequest,
    ServiceUnreachable,
    TureenError,
    failure_of,
)

T = TypeVar("T")

LONGEST_TIMEOUT_S = 24 * 3600.0  # that servers take

BODY_BYTES = 4 * 2**20
"""Largest body sent to a server whose own limit was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When to try again.

        client = RewardClient(url, retry=Retry(max_retries=0))   # never

    max_retries: attempts in a row, after the first, that bring nothing new; the time is bounded
    by the client's `timeout_s`. Without a hint of the server the n-th pause is drawn uniformly
    from the upper half of backoff_s · 2ⁿ, at most max_backoff_s. A hint is waited for in full,
    plus up to backoff_s, so that the refused do not come back as one.
    """

    max_retries: int = 8
    backoff_s: float = 0.2
    max_backoff_s: float = 5.0

    def pause_s(self, attempt: int, hint_s: float | None, draw: float) -> float:
        """attempt: 0 for the first pause. draw: uniform in [0, 1)."""
        if hint_s is not None:
            return hint_s + draw * self.backoff_s
        return min(self.max_backoff_s, self.backoff_s * 2**attempt) * (1 + draw) / 2


SoupChange = Literal["create_soup", "activate_soup", "shadow_soup", "rollback_soup"]
Operation = Literal["score", "rank", "models", "model", "soups"] | SoupChange

ANSWERS: dict[Operation, type] = {
    "score": ScoreResponse,
    "rank": RankResponse,
    "models": ModelList,
    "model": ModelInfo,
    "soups": SoupList,
    "create_soup": SoupInfo,
    "activate_soup": SoupInfo,
    "shadow_soup": SoupInfo,
    "rollback_soup": SoupInfo,
}


class Call(NamedTuple):
    operation: Operation
    payload: Any  # the request of the contract, None, a model id, a `NamedSoup`
    timeout_s: float


class NamedSoup(NamedTuple):
    """fingerprint: None is whatever is active. model: None is the default model."""

    fingerprint: str | None
    model: str | None


class Send(NamedTuple):
    """Answered by a list: a contract or a `TureenError` for each call, as they may run together."""

    calls: tuple[Call, ...]


class Wait(NamedTuple):
    seconds: float


Steps = Generator[Send | Wait, Any, T]


class Flow:
    """Everything the conversations of one client share.

    Args:
        address: for messages.
        timeout_s: budget of one conversation, retries included.
        max_client_batch_size: responses in one request; None asks the server.
        clock: monotonic seconds. draw: uniform in [0, 1).
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        max_client_batch_size: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not (isinstance(timeout_s, (int, float)) and 0 < timeout_s <= LONGEST_TIMEOUT_S):
            raise InvalidRequest(
                f"timeout_s is {timeout_s!r}; give a positive number of seconds, at most "
                f"{LONGEST_TIMEOUT_S:g}."
            )
        if max_client_batch_size is not None and max_client_batch_size < 1:
            raise InvalidRequest(
                f"max_client_batch_size is {max_client_batch_size}; give at least 1, or None."
            )
        if retry is not None and not isinstance(retry, Retry):
            raise InvalidRequest(f"retry is {retry!r}; give Retry(max_retries=…), or None.")
        self.address = address
        self.timeout_s = timeout_s
        self.retry = retry or Retry()
        self._batch_size = max_client_batch_size
        self.clock, self.draw = clock, draw
        self._known: ModelList | None = None
        self.closed = False

    def require_open(self) -> None:
        """Raises InvalidRequest once the client is closed."""
        if self.closed:
            raise InvalidRequest(
                f"this client of {self.address} is closed; ask inside its `with` block, or make "
                "another one."
            )

    def models(self) -> Steps[ModelList]:
        models = self._known = yield from self._ask("models", None, _Budget(self))
        return models

    def learn(self) -> Steps[None]:
        """Asks for the limits before many conversations begin at once, so that each need not."""
        if self._batch_size is None and self._known is None:
            yield from self.models()

    def model(self, model_id: str | None) -> Steps[ModelInfo]:
        if model_id is not None:
            return (yield from self._ask("model", model_id, _Budget(self)))
        models = yield from self.models()
        default = [info for info in models.models if info.id == models.default_model]
        if not default:
            raise BackendFailure(
                f"{self.address} does not describe its default model {models.default_model!r}."
            )
        return default[0]

    def rank(self, request: RankRequest) -> Steps[RankResponse]:
        return (yield from self._ask("rank", request, _Budget(self, rewards=True)))

    def soups(self, model: str | None) -> Steps[SoupList]:
        return (yield from self._ask("soups", model, _Budget(self)))

    def change_soup(
        self,
        operation: SoupChange,
        payload: CreateSoupRequest | NamedSoup,
    ) -> Steps[SoupInfo]:
        """A change that may have happened although no answer came is asked for once more, but for
        a roll-back, which would then lead further back."""
        if operation != "rollback_soup":
            return (yield from self._ask(operation, payload, _Budget(self)))
        budget = _Budget(self)
        (outcome,) = yield Send((Call(operation, payload, budget.left_s()),))
        if isinstance(outcome, TureenError):
            raise budget.final(outcome)
        return outcome

    def score(self, request: ScoreRequest) -> Steps[ScoreResponse]:
        """One answer of one fingerprint for the whole request, however many calls it takes.

        Samples that could not be scored carry their errors; when that is all of them, the first
        is raised.
        """
        if not request.samples:
            raise InvalidRequest("samples is empty; give at least one.", field="samples")
        budget = _Budget(self, rewards=True)
        responses, body_bytes = yield from self._limits(request, budget)
        ledger = Ledger(split(request.samples, responses, body_bytes))
        while todo := ledger.open():
            parts = pack(todo, responses, body_bytes, ledger.alone)
            left_s = budget.left_s()
            outcomes = yield Send(
                tuple(
                    Call("score", replace(request, samples=tuple(p.sample for p in part)), left_s)
                    for part in parts
                )
            )
            progress = ledger.take(parts, outcomes)
            if any(isinstance(outcome, ServiceUnreachable) for outcome in outcomes):
                self._known = None  # whoever answers next may have other limits
            if not ledger.open():
                break
            pause_s = budget.pause_s((e.retry_after_s for e in ledger.passing()), progress)
            if pause_s is None:
                break
            if pause_s:
                yield Wait(pause_s)
        for error in ledger.failures():
            if error.code == ServiceUnreachable.code:
                raise budget.final(ServiceUnreachable(error.message))
        if len(ledger.provenances()) > 1:
            raise BackendFailure(
                f"{self.address} scored parts of one request with different weights ("
                f"{', '.join(sorted(p.fingerprint for p in ledger.provenances()))}), in "
                f"{budget.attempts} attempts. No reward was substituted; ask again when all "
                "replicas serve the same soup."
            )
        response = ledger.merged(request.samples)
        if failure := failure_of(response):
            raise budget.final(failure)
        return response

    def _limits(self, request: ScoreRequest, budget: _Budget) -> Steps[tuple[int | None, int]]:
        """Responses and bytes one call may carry; not asked for one response, which stays whole."""
        if self._batch_size is not None:
            return self._batch_size, BODY_BYTES
        if sum(len(sample.responses) for sample in request.samples) <= 1:
            return None, BODY_BYTES
        wanted, known = request.model, self._known
        if known is None or not (wanted is None or any(m.id == wanted for m in known.models)):
            known = self._known = yield from self._ask("models", None, budget)
        for info in known.models:
            if info.id == (known.default_model if wanted is None else wanted):
                return info.limits.max_client_batch_size, info.limits.max_body_bytes
        return None, BODY_BYTES  # the server will say that it does not know the model

    def _ask(self, operation: Operation, payload: Any, budget: _Budget) -> Steps[Any]:
        """One call, again and again while that may help."""
        while True:
            (outcome,) = yield Send((Call(operation, payload, budget.left_s()),))
            if not isinstance(outcome, TureenError):
                return outcome
            pause_s = None
            if outcome.retryable:
                pause_s = budget.pause_s([outcome.retry_after_s], progress=False)
            if pause_s is None:
                raise budget.final(outcome)
            yield Wait(pause_s)


class _Budget:
    """Time and attempts of one conversation. rewards: it asks for some."""

    def __init__(self, flow: Flow, *, rewards: bool = False) -> None:
        self._flow, self._rewards = flow, rewards
        self._started_s = flow.clock()
        self._fruitless = 0
        self.attempts = 1

    def left_s(self) -> float:
        return max(0.001, self._started_s + self._flow.timeout_s - self._flow.clock())

    def pause_s(self, hints_s: Iterable[float | None], progress: bool) -> float | None:
        """How long to wait before the next attempt; None when there is none left."""
        retry = self._flow.retry
        self._fruitless = 0 if progress else self._fruitless + 1
        if self._fruitless > retry.max_retries:
            return None
        step = max(0, self._fruitless - 1)
        pauses_s = [retry.pause_s(step, hint_s, self._flow.draw()) for hint_s in hints_s]
        pause_s = max(pauses_s, default=0.0)
        if self._flow.clock() + pause_s >= self._started_s + self._flow.timeout_s:
            return None
        self.attempts += 1
        return pause_s

    def final(self, error: TureenError) -> TureenError:
        """The error to raise: what the last attempt said, and that there were others."""
        if not error.retryable:
            return error
        flow, spent_s = self._flow, self._flow.clock() - self._started_s
        tries = f"{self.attempts} attempt{'s' * (self.attempts > 1)} over {spent_s:.1f} s"
        if isinstance(error, ServiceUnreachable):
            return ServiceUnreachable(
                f"{flow.address} did not answer {tries} (last: {error.message}). "
                f"{'No reward was substituted. ' if self._rewards else ''}Start the service with "
                f"'tureen serve', or raise timeout_s ({flow.timeout_s:g}) or Retry.max_retries "
                f"({flow.retry.max_retries})."
            )
        if isinstance(error, DeadlineExceeded):
            tries += f" of timeout_s {flow.timeout_s:g}"
        nothing = "; no reward was substituted" if self._rewards else ""
        return type(error)(
            f"{error.message} (from {flow.address}, {tries}{nothing})",
            field=error.field,
            got=error.got,
            limit=error.limit,
            retry_after_s=error.retry_after_s,
        )
