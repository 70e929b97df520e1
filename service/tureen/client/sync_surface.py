"""The surface for callers that wait."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing
from typing import Any, Protocol, Self, TypeVar, Unpack

from tureen.client.flow import Call, NamedSoup, Steps, Wait
from tureen.client.surface import (
    IN_FLIGHT,
    PARALLEL_CALLS,
    Indexed,
    IndexedAnswer,
    Offsets,
    Options,
    Prompt,
    Surface,
    checked,
    failed_answer,
    one_sample,
    stream_options,
)
from tureen.contracts import (
    CreateSoupRequest,
    ModelInfo,
    ModelList,
    RankRequest,
    RankResponse,
    Sample,
    Score,
    ScoreRequest,
    ScoreResponse,
    SoupInfo,
    SoupList,
)
from tureen.errors import TureenError

T = TypeVar("T")


class Caller(Protocol):
    def __call__(self, call: Call) -> Any: ...


class SyncSurface(Surface):
    """Safe to share between threads."""

    # --- of the transport ---

    def _call(self, call: Call) -> Any:
        """One call's contract; raises `TureenError`."""
        raise NotImplementedError

    def _probe(self, *, ready: bool) -> bool:
        raise NotImplementedError

    def _multiplexed(self) -> AbstractContextManager[Caller]:
        """A `_call` for many callers at once."""
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    # --- for everyone ---

    def score(
        self,
        prompt: Prompt,
        responses: Sequence[str],
        *,
        context: Sequence[str] = (),
        offsets: Offsets | None = None,
        **options: Unpack[Options],
    ) -> list[Score]:
        """One score a response, in their order; raises the error of the sample if there is one."""
        sample = Sample(**one_sample(prompt, responses, context, offsets))
        (result,) = self.score_samples([sample], **options).results
        return list(result.scores or ())

    def score_samples(self, samples: Sequence[Sample], **options: Unpack[Options]) -> ScoreResponse:
        return self.send(ScoreRequest(samples=tuple(samples), **checked(options)))

    def send(self, request: ScoreRequest) -> ScoreResponse:
        """Any number of samples, split and merged as needed, retried within `timeout_s`.

        Samples that cannot be scored carry their error; when that is all of them, the first is
        raised.
        """
        return self._run(self._flow.score(request), self._call)

    def stream(
        self, samples: Iterable[Sample], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
    ) -> Generator[Indexed, None, None]:
        """(index of the sample, its result) as they finish, in any order.

        `timeout_s` holds for each sample. `samples` is read in the caller's thread, at most
        `in_flight` ahead of the results. Errors of samples stand in their results; those that would
        meet every sample (no service, no permission) are raised.
        """
        with closing(self.stream_answers(samples, in_flight=in_flight, **options)) as answers:
            for index, answer in answers:
                yield index, answer.results[0]

    def stream_answers(
        self, samples: Iterable[Sample], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
    ) -> Generator[IndexedAnswer, None, None]:
        """`stream` with whose weights gave each result: (index of the sample, answer of one result).

        The answer for a sample that failed names no weights.
        """
        known = stream_options(in_flight, options)
        self._run(self._flow.learn(), self._call)
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="tureen-stream")
        waiting: dict[Future[ScoreResponse], int] = {}
        try:
            with self._multiplexed() as call:
                source = enumerate(samples)
                while True:
                    for index, sample in source:
                        request = ScoreRequest(samples=(sample,), **known)
                        waiting[pool.submit(self._one, request, call)] = index
                        if len(waiting) >= in_flight:
                            break
                    if not waiting:
                        return
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, request: ScoreRequest, call: Caller) -> ScoreResponse:
        try:
            return self._run(self._flow.score(request), call)
        except TureenError as error:
            self._flow.require_open()  # else every sample left would say so
            return failed_answer(request.samples[0], error)

    def rank(
        self,
        prompt: Prompt,
        responses: Sequence[str],
        *,
        context: Sequence[str] = (),
        offsets: Offsets | None = None,
        id: str | None = None,
        **options: Unpack[Options],
    ) -> RankResponse:
        fields = one_sample(prompt, responses, context, offsets)
        return self._run(
            self._flow.rank(RankRequest(id=id, **fields, **checked(options))), self._call
        )

    def models(self) -> ModelList:
        return self._run(self._flow.models(), self._call)

    def model(self, model_id: str | None = None) -> ModelInfo:
        """What the service says of a model; None is the default model."""
        return self._run(self._flow.model(model_id), self._call)

    def soups(self, model: str | None = None) -> SoupList:
        """The soups of a served model, None being the default one, and what was done to them; wants an admin key."""
        return self._run(self._flow.soups(model), self._call)

    def create_soup(self, coefficients: Mapping[str, float], model: str | None = None) -> SoupInfo:
        """Begins to form a soup in the background; `activate_soup` and `shadow_soup` wait for it.

        Args:
            coefficients: ingredient -> weight, ≥ 0, adding up to 1; one left out weighs nothing.
        """
        request = CreateSoupRequest(model=model, coefficients=dict(coefficients))
        return self._run(self._flow.change_soup("create_soup", request), self._call)

    def activate_soup(self, fingerprint: str, model: str | None = None) -> SoupInfo:
        """Every request that is sent after this is answered by that soup."""
        return self._run(
            self._flow.change_soup("activate_soup", NamedSoup(fingerprint, model)), self._call
        )

    def shadow_soup(self, fingerprint: str, model: str | None = None) -> SoupInfo:
        """Compares that soup with the active one; the active one's own fingerprint ends it."""
        return self._run(
            self._flow.change_soup("shadow_soup", NamedSoup(fingerprint, model)), self._call
        )

    def rollback_soup(self, fingerprint: str | None = None, model: str | None = None) -> SoupInfo:
        """Activates what was active before.

        Args:
            fingerprint: refuse unless this is the soup that is left, or returned to.
        """
        return self._run(
            self._flow.change_soup("rollback_soup", NamedSoup(fingerprint, model)), self._call
        )

    def healthy(self) -> bool:
        """Does the process live? One question, no retries; False also when nobody answers."""
        self._flow.require_open()
        return self._probe(ready=False)

    def ready(self) -> bool:
        """Would it score now? One question, no retries; False also when nobody answers."""
        self._flow.require_open()
        return self._probe(ready=True)

    def close(self) -> None:
        self._flow.closed = True
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self, steps: Steps[T], call: Caller) -> T:
        """Drives a flow: does what it yields and sends it what came of that."""

        def attempt(one: Call) -> Any:
            try:
                self._flow.require_open()
                return call(one)
            except TureenError as error:
                return error

        outcomes = None
        while True:
            try:
                step = steps.send(outcomes)
            except StopIteration as done:
                return done.value
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                outcomes = None
            elif len(step.calls) == 1:  # in the caller's thread
                outcomes = [attempt(step.calls[0])]
            else:
                with ThreadPoolExecutor(min(len(step.calls), PARALLEL_CALLS)) as pool:
                    outcomes = list(pool.map(attempt, step.calls))
