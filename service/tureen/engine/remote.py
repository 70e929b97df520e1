"""An engine in another process: what travels there and back, and both ends of it.

Keys, quotas and limits of a request are checked where it came in. Permits, lanes and deadlines are
the engine's own, as always.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tureen.contracts import (
    ModelInfo,
    ModelList,
    Priority,
    RankRequest,
    RankResponse,
    Sample,
    ScoreRequest,
    ScoreResponse,
)
from tureen.engine.caller import CALLER, Caller
from tureen.engine.limits import EngineLimits
from tureen.engine.metrics import Metrics
from tureen.engine.scorer import Scorer
from tureen.engine.scoring import Scoring, unknown_model
from tureen.engine.tokenizing import Tokenized
from tureen.errors import (
    BackendFailure,
    Overloaded,
    TureenError,
)

T = TypeVar("T", ScoreResponse, RankResponse)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way to the engine.

    caller: who asks; its quota and its trace stay at the door.
    tokenized: its samples, where that was done on the way.
    left_ns: until the deadline; clocks of two machines have nothing in common.
    """

    request: ScoreRequest | RankRequest
    caller: Caller | None
    priority: Priority
    left_ns: int | None
    patience_s: float = 0.0
    tokenized: Tokenized | None = None

    @property
    def samples(self) -> Sequence[Sample]:
        request = self.request
        return (request,) if isinstance(request, RankRequest) else request.samples


Answer = ScoreResponse | RankResponse | TureenError
"""The error is what `Scoring.score` would have raised."""


async def answer(scorer: Scorer, asked: Asked) -> Answer:
    """At the engine. Cancelling it drops the work."""
    CALLER.set(asked.caller)
    deadline_ns = None if asked.left_ns is None else time.monotonic_ns() + asked.left_ns
    try:
        if isinstance(asked.request, RankRequest):
            return await scorer.rank(
                asked.request,
                deadline_ns=deadline_ns,
                priority=asked.priority,
                tokenized=asked.tokenized,
            )
        return await scorer.score(
            asked.request,
            deadline_ns=deadline_ns,
            priority=asked.priority,
            patience_s=asked.patience_s,
            tokenized=asked.tokenized,
        )
    except TureenError as error:
        return error


class RemoteScorer(Scoring):
    """At the door. It knows of the engine what it was told last (`learn`).

    Args:
        ask: brings it to the engine, and what `answer` made of it back; raises TureenError where no
            answer can be had. Cancelled, it cancels there.
    """

    def __init__(
        self, ask: Callable[[Asked], Awaitable[Answer]], limits: EngineLimits, metrics: Metrics
    ) -> None:
        self._ask, self.limits, self.metrics = ask, limits, metrics
        self._models: ModelList | None = None
        self._trouble: str | None = "the engine has not been heard of"

    def learn(self, models: ModelList | None, trouble: str | None) -> None:
        """models: None leaves those that were known. trouble: why no score can be expected."""
        self._models = models if models is not None else self._models
        self._trouble = trouble

    def ready(self) -> tuple[bool, str]:
        return self._trouble is None, self._trouble or "ready"

    def models(self) -> ModelList:
        if self._models is None:
            raise Overloaded(f"Not answering now: {self._trouble}.", retry_after_s=1.0)
        return self._models

    def model(self, model_id: str | None = None) -> ModelInfo:
        known = self.models()
        name = model_id if model_id is not None else known.default_model
        for one in known.models:
            if one.id == name:
                return one
        raise unknown_model(name, [one.id for one in known.models])

    async def score(
        self,
        request: ScoreRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        patience_s: float = 0.0,
    ) -> ScoreResponse:
        return await self._answered(
            ScoreResponse, request, request.samples, deadline_ns, priority, patience_s
        )

    async def rank(
        self,
        request: RankRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> RankResponse:
        return await self._answered(RankResponse, request, (request,), deadline_ns, priority)

    async def _answered(
        self,
        kind: type[T],
        request: ScoreRequest | RankRequest,
        samples: Sequence[Sample],
        deadline_ns: int | None,
        priority: Priority,
        patience_s: float = 0.0,
    ) -> T:
        count = self.check_size(samples)
        caller = CALLER.get()
        quota = None
        if caller is not None:
            caller.samples += samples
            quota = caller.quota
            caller = replace(caller, quota=None, trace=None, samples=[])
        left_ns = None if deadline_ns is None else deadline_ns - time.monotonic_ns()
        if quota is not None:
            quota.take(count)
        found = await self._ask(Asked(request, caller, priority, left_ns, patience_s))
        if isinstance(found, kind):
            return found
        if quota is not None and isinstance(found, Overloaded):
            quota.give_back(count)
        if isinstance(found, TureenError):
            raise found
        raise BackendFailure(f"the engine answered {type(found).__name__}, not {kind.__name__}.")
