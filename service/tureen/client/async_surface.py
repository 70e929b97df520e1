"""The surface for callers that await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
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


class AsyncCaller(Protocol):
    async def __call__(self, call: Call) -> Any: ...


class AsyncSurface(Surface):
    """`SyncSurface` as coroutines, for one event loop. A cancelled one abandons its calls."""

    # --- of the transport ---

    async def _call(self, call: Call) -> Any:
        raise NotImplementedError

    async def _probe(self, *, ready: bool) -> bool:
        raise NotImplementedError

    def _multiplexed(self) -> AbstractAsyncContextManager[AsyncCaller]:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError

    # --- for everyone ---

    async def score(
        self,
        prompt: Prompt,
        responses: Sequence[str],
        *,
        context: Sequence[str] = (),
        offsets: Offsets | None = None,
        **options: Unpack[Options],
    ) -> list[Score]:
        sample = Sample(**one_sample(prompt, responses, context, offsets))
        (result,) = (await self.score_samples([sample], **options)).results
        return list(result.scores or ())

    async def score_samples(
        self, samples: Sequence[Sample], **options: Unpack[Options]
    ) -> ScoreResponse:
        return await self.send(ScoreRequest(samples=tuple(samples), **checked(options)))

    async def send(self, request: ScoreRequest) -> ScoreResponse:
        return await self._run(self._flow.score(request), self._call)

    async def stream(
        self,
        samples: Iterable[Sample] | AsyncIterable[Sample],
        *,
        in_flight: int = IN_FLIGHT,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Indexed, None]:
        """As `SyncSurface.stream`; an asynchronous source is read while results are waited for.

        Whoever leaves early calls `aclose`, or uses `contextlib.aclosing`: then its calls end at once.
        """
        async with aclosing(
            self.stream_answers(samples, in_flight=in_flight, **options)
        ) as answers:
            async for index, answer in answers:
                yield index, answer.results[0]

    async def stream_answers(
        self,
        samples: Iterable[Sample] | AsyncIterable[Sample],
        *,
        in_flight: int = IN_FLIGHT,
        **options: Unpack[Options],
    ) -> AsyncGenerator[IndexedAnswer, None]:
        """As `SyncSurface.stream_answers`, with the ways of `stream`."""
        known = stream_options(in_flight, options)
        await self._run(self._flow.learn(), self._call)
        source = _numbered(samples)
        tasks: dict[asyncio.Task[ScoreResponse], int] = {}
        reading: asyncio.Task[tuple[int, Sample] | None] | None = None
        exhausted = False
        async with self._multiplexed() as call:
            try:
                while True:
                    if reading is None and not exhausted and len(tasks) < in_flight:
                        reading = asyncio.ensure_future(anext(source, None))
                    under_way = _present(*tasks, reading)
                    if not under_way:
                        return
                    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    if reading is not None and reading in done:
                        arrived, reading = reading.result(), None
                        exhausted = arrived is None
                        if arrived is not None:
                            index, sample = arrived
                            request = ScoreRequest(samples=(sample,), **known)
                            tasks[asyncio.create_task(self._one(request, call))] = index
                    for task in [task for task in tasks if task in done]:
                        yield tasks.pop(task), task.result()
            finally:
                abandoned = _present(*tasks, reading)
                for task in abandoned:
                    task.cancel()
                await asyncio.gather(*abandoned, return_exceptions=True)
                await source.aclose()

    async def _one(self, request: ScoreRequest, call: AsyncCaller) -> ScoreResponse:
        try:
            return await self._run(self._flow.score(request), call)
        except TureenError as error:
            self._flow.require_open()  # else every sample left would say so
            return failed_answer(request.samples[0], error)

    async def rank(
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
        request = RankRequest(id=id, **fields, **checked(options))
        return await self._run(self._flow.rank(request), self._call)

    async def models(self) -> ModelList:
        return await self._run(self._flow.models(), self._call)

    async def model(self, model_id: str | None = None) -> ModelInfo:
        return await self._run(self._flow.model(model_id), self._call)

    async def soups(self, model: str | None = None) -> SoupList:
        """The soups of a served model, None being the default one, and what was done to them; wants an admin key."""
        return await self._run(self._flow.soups(model), self._call)

    async def create_soup(
        self, coefficients: Mapping[str, float], model: str | None = None
    ) -> SoupInfo:
        """Begins to form a soup in the background; `activate_soup` and `shadow_soup` wait for it.

        Args:
            coefficients: ingredient -> weight, ≥ 0, adding up to 1; one left out weighs nothing.
        """
        request = CreateSoupRequest(model=model, coefficients=dict(coefficients))
        return await self._run(self._flow.change_soup("create_soup", request), self._call)

    async def activate_soup(self, fingerprint: str, model: str | None = None) -> SoupInfo:
        """Every request that is sent after this is answered by that soup."""
        return await self._run(
            self._flow.change_soup("activate_soup", NamedSoup(fingerprint, model)), self._call
        )

    async def shadow_soup(self, fingerprint: str, model: str | None = None) -> SoupInfo:
        """Compares that soup with the active one; the active one's own fingerprint ends it."""
        return await self._run(
            self._flow.change_soup("shadow_soup", NamedSoup(fingerprint, model)), self._call
        )

    async def rollback_soup(
        self, fingerprint: str | None = None, model: str | None = None
    ) -> SoupInfo:
        """Activates what was active before.

        Args:
            fingerprint: refuse unless this is the soup that is left, or returned to.
        """
        return await self._run(
            self._flow.change_soup("rollback_soup", NamedSoup(fingerprint, model)), self._call
        )

    async def healthy(self) -> bool:
        self._flow.require_open()
        return await self._probe(ready=False)

    async def ready(self) -> bool:
        self._flow.require_open()
        return await self._probe(ready=True)

    async def close(self) -> None:
        self._flow.closed = True
        await self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T], call: AsyncCaller) -> T:
        permits = asyncio.Semaphore(PARALLEL_CALLS)

        async def attempt(one: Call) -> Any:
            async with permits:
                try:
                    self._flow.require_open()
                    return await call(one)
                except TureenError as error:
                    return error

        outcomes = None
        while True:
            try:
                step = steps.send(outcomes)
            except StopIteration as done:
                return done.value
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                outcomes = None
            else:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(attempt(one)) for one in step.calls]
                outcomes = [task.result() for task in tasks]


def _present(*tasks: asyncio.Future[Any] | None) -> set[asyncio.Future[Any]]:
    return {task for task in tasks if task is not None}


async def _numbered(
    samples: Iterable[Sample] | AsyncIterable[Sample],
) -> AsyncGenerator[tuple[int, Sample], None]:
    index = 0
    if isinstance(samples, AsyncIterable):
        async for sample in samples:
            yield index, sample
            index += 1
    else:
        for index, sample in enumerate(samples):
            yield index, sample
