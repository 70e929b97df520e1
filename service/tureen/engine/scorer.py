"""The front of the engine, behind every door: `await scorer.score(request)`.

It admits or refuses, keeps deadlines, chooses the model and gives answers their shape; the way from
text to scores is `serving.Serving`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tureen.contracts import (
    ModelInfo,
    ModelList,
    Priority,
    RankRequest,
    RankResponse,
    Sample,
    SampleResult,
    ScoreOptions,
    ScoreRequest,
    ScoreResponse,
    Timings,
)
from tureen.engine.cache import ValueCache
from tureen.engine.caller import CALLER
from tureen.engine.device import Device
from tureen.engine.ensemble import ranking, win_probability
from tureen.engine.limits import EngineLimits
from tureen.engine.metrics import Metrics
from tureen.engine.permits import Permits
from tureen.engine.scoring import Scoring, unknown_model
from tureen.engine.served import ServedModel
from tureen.engine.serving import Outcome, Serving
from tureen.engine.shadow import Shadow
from tureen.engine.tokenizing import SampleTokenizer, Tokenized
from tureen.errors import (
    DeadlineExceeded,
    Overloaded,
    TureenError,
    nearest,
)

_STOP_S = 10.0  # for the batch that is on the device after the time to drain is over


class Scorer(Scoring):
    """Serves models within one event loop.

        scorer = Scorer([load_model("grounded-qa")])
        await scorer.start()
        response = await scorer.score(ScoreRequest(samples=(sample,)))
        await scorer.stop()

    Args:
        models: with distinct ids.
        default_model: the one that answers where a request names none; the first when None.
    Raises:
        ValueError: no model, two of one id, or a default that is not among them.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        default_model: str | None = None,
        limits: EngineLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.limits = limits if limits is not None else EngineLimits()
        self.metrics = metrics if metrics is not None else Metrics()
        ids = [model.model_id for model in models]
        if not ids or len(set(ids)) < len(ids):
            raise ValueError(f"models are {ids}; give at least one, each id once.")
        self.default_model = default_model if default_model is not None else ids[0]
        if self.default_model not in ids:
            raise ValueError(
                f"default_model is {self.default_model!r}{nearest(self.default_model, ids)}"
            )
        self._threads = ThreadPoolExecutor(self.limits.tokenization_workers, "tureen-tokenize")
        self._cache = ValueCache(self.limits.cache_bytes)
        self._devices: dict[str, Device] = {}
        self._servings = {model.model_id: self._serving_of(model, self.metrics) for model in models}
        self._reserve: set[Serving] = set()
        self._unheard = Metrics()  # of what answers nobody
        self._shadows: dict[str, Shadow] = {}  # by model
        self._permits = Permits(
            self.limits.max_concurrent_requests, ids, self.limits.max_client_batch_size
        )
        self._draining = False
        self._drained = asyncio.Event()
        self.metrics.watch_in_flight(lambda: self._permits.taken)
        self.metrics.watch_ready(lambda: self.ready()[0])

    async def start(self) -> None:
        """Runs each model's start-up check and begins to serve those that pass; see `ready`."""
        for serving in self._servings.values():
            await serving.start()

    async def stop(self, drain_s: float = 30.0) -> None:
        """Admits nothing more, gives `drain_s` to what is in flight, fails the rest."""
        self._draining = True
        await self._in_flight_done(drain_s)
        for serving in (*self._servings.values(), *self._reserve):
            await serving.stop(_STOP_S)
        await self._in_flight_done(_STOP_S)  # what was failed just now still gets its answer
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, model: ServedModel) -> Serving:
        """A model beside the one of its id: started and checked (`trouble`), answering nobody."""
        serving = self._serving_of(model, self._unheard)
        self._reserve.add(serving)
        await serving.start()
        return serving

    def swap(self, serving: Serving) -> None:
        """Requests from now on are answered by one of `prepare`; the old one takes its place there.

        A request in flight finishes where it began: none is answered by both.
        """
        model_id = serving.info.id
        self._reserve.add(self._servings[model_id])
        self._reserve.discard(serving)
        serving.report_to(self.metrics)
        self._servings[model_id] = serving

    def shadow(self, serving: Serving) -> Shadow:
        """From now on one that answers nobody scores what the one of its id answers, uncounted."""
        before = self._shadows.get(serving.info.id)
        if before is not None:
            self.unshadow(before)
        serving.report_to(self._unheard)
        made = self._shadows[serving.info.id] = Shadow(serving)
        return made

    def unshadow(self, shadow: Shadow) -> None:
        """Ends one of `shadow`."""
        shadow.stop()
        self._shadows = {one: other for one, other in self._shadows.items() if other is not shadow}

    async def retire(self, serving: Serving) -> None:
        """Stops one of `prepare` or `swap` when the requests on it are answered."""
        await serving.unused()
        await serving.stop(_STOP_S)
        self._reserve.discard(serving)

    def _serving_of(self, model: ServedModel, metrics: Metrics) -> Serving:
        name = model.backend.info.device
        device = self._devices.setdefault(f"{name}:0" if name == "cuda" else name, Device())
        return Serving(model, self.limits, self._cache, metrics, self._threads, device)

    def ready(self) -> tuple[bool, str]:
        if self._draining:
            return False, "draining"
        for model_id, serving in self._servings.items():
            if serving.trouble is not None:
                return False, f"{model_id}: {serving.trouble}"
        return True, "ready"

    def models(self) -> ModelList:
        return ModelList(
            default_model=self.default_model,
            models=tuple(serving.info for serving in self._servings.values()),
        )

    def model(self, model_id: str | None = None) -> ModelInfo:
        return self.serving(model_id).info

    def tokenizers(self) -> dict[str, SampleTokenizer]:
        """By model; every soup of a model has the same."""
        return {name: serving.tokenizer for name, serving in self._servings.items()}

    async def score(
        self,
        request: ScoreRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        patience_s: float = 0.0,
        tokenized: Tokenized | None = None,
    ) -> ScoreResponse:
        """tokenized: the samples, by the model's `SampleTokenizer`, where that was done elsewhere."""
        count = self.check_size(request.samples)
        serving = self.serving(request.model)
        outcomes, timings = await self._evaluate(
            serving, request.samples, count, request, deadline_ns, priority, patience_s, tokenized
        )
        results: list[SampleResult] = []
        for sample, outcome in zip(request.samples, outcomes, strict=True):
            if isinstance(outcome, TureenError):
                self.metrics.error(outcome.code)
                results.append(SampleResult(id=sample.id, error=outcome.info()))
            else:
                results.append(SampleResult(id=sample.id, scores=outcome))
        return ScoreResponse(
            model=serving.info.id,
            fingerprint=serving.info.fingerprint,
            soup=serving.info.soup,
            results=tuple(results),
            timings=timings,
        )

    async def rank(
        self,
        request: RankRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        tokenized: Tokenized | None = None,
    ) -> RankResponse:
        """tokenized: as for `score`."""
        count = self.check_size((request,))
        serving = self.serving(request.model)
        (outcome,), timings = await self._evaluate(
            serving, (request,), count, request, deadline_ns, priority, tokenized=tokenized
        )
        if isinstance(outcome, TureenError):
            raise outcome
        rewards = tuple(score.reward for score in outcome)
        wins = win_probability(rewards, serving.info.temperature)
        return RankResponse(
            model=serving.info.id,
            fingerprint=serving.info.fingerprint,
            soup=serving.info.soup,
            id=request.id,
            ranking=ranking(rewards),
            rewards=rewards,
            win_probability=tuple(tuple(row) for row in wins.tolist()),
            scores=outcome,
            timings=timings,
        )

    async def _in_flight_done(self, within_s: float) -> None:
        """Returns when no response is in flight, or when the time is over."""
        if self._permits.taken:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._drained.wait()

    async def _evaluate(
        self,
        serving: Serving,
        samples: Sequence[Sample],
        count: int,
        options: ScoreOptions,
        deadline_ns: int | None,
        lane: Priority,
        patience_s: float = 0.0,
        tokenized: Tokenized | None = None,
    ) -> tuple[list[Outcome], Timings]:
        with serving.used():
            outcomes, timings = await self._admitted(
                serving, samples, count, options, deadline_ns, lane, patience_s, tokenized
            )
        # What began before the last swap is no soup's business to be compared with.
        if self._shadows and serving is self._servings[serving.info.id]:
            shadow = self._shadows.get(serving.info.id)
            if shadow is not None:
                shadow.follow(samples, options, outcomes)
        return outcomes, timings

    async def _admitted(
        self,
        serving: Serving,
        samples: Sequence[Sample],
        count: int,
        options: ScoreOptions,
        deadline_ns: int | None,
        lane: Priority,
        patience_s: float,
        tokenized: Tokenized | None,
    ) -> tuple[list[Outcome], Timings]:
        caller = CALLER.get()
        if caller is not None:
            caller.samples += samples
            lane = lane if caller.lane is Priority.INTERACTIVE else Priority.BULK
        if self._draining:
            raise Overloaded(
                "the server is draining and admits nothing more; send this to another one, or "
                "again later.",
                retry_after_s=serving.wait_hint_s(),
            )
        try:
            patience_s = min(patience_s, _left_s(deadline_ns))
            async with self._permits.wait(count, serving.wait_hint_s, patience_s, serving.info.id):
                if caller is not None and caller.quota is not None:
                    caller.quota.take(count)
                work = partial(
                    serving.evaluate,
                    *(samples, options),
                    lane=lane,
                    deadline_ns=deadline_ns,
                    tokenized=tokenized,
                )
                if deadline_ns is None:
                    return await work()
                left_s = _left_s(deadline_ns)
                if left_s <= 0:
                    raise _late()
                try:
                    async with asyncio.timeout(left_s):
                        return await work()
                except TimeoutError as error:
                    if isinstance(error, TureenError):
                        raise
                    raise _late() from None
        finally:
            if self._draining and not self._permits.taken:
                self._drained.set()

    def serving(self, model_id: str | None = None) -> Serving:
        """That answers now; raises UnknownModel."""
        name = model_id if model_id is not None else self.default_model
        serving = self._servings.get(name)
        if serving is None:
            raise unknown_model(name, self._servings)
        return serving


def _left_s(deadline_ns: int | None) -> float:
    return math.inf if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / 1e9


def _late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the deadline passed before the answer was ready; give more time, or send less at once."
    )
