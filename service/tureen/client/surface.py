"""What every client offers, written twice: for callers that wait and for callers that await.

A transport adds `_call` (one question, one answer), `_probe` (health), `_multiplexed` (many
questions at once) and `_close`; everything else is here and in `flow`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self, TypedDict, TypeVar, Unpack

from tureen.client.flow import Call, Flow, Retry, Steps, Wait
from tureen.contracts import (
    Aggregation,
    Message,
    ModelInfo,
    ModelList,
    Priority,
    RankRequest,
    RankResponse,
    Sample,
    SampleResult,
    Score,
    ScoreRequest,
    ScoreResponse,
    Truncate,
)
from tureen.errors import (
    Forbidden,
    InvalidRequest,
    ServiceUnreachable,
    TureenError,
    Unauthenticated,
    nearest,
)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

PARALLEL_CALLS = 8
"""Calls of one split request that are under way at once."""

IN_FLIGHT = 32
"""Samples of a stream that are under way at once."""

PROBE_TIMEOUT_S = 5.0

_FATAL = (ServiceUnreachable, Unauthenticated, Forbidden)  # no sample of a stream would fare better


class Options(TypedDict, total=False):
    """`ScoreOptions` and the model as keywords; what is left out has the contract's default."""

    model: str | None
    heads: Sequence[str] | None
    weights: Mapping[str, float] | None
    aggregation: Aggregation | str
    penalty: float
    uncertainty: bool
    segments: bool
    members: bool
    truncate: Truncate | str


Prompt = str | Sequence[Message | Mapping[str, str]]
Offsets = Sequence[Sequence[tuple[int, int]] | None]
Indexed = tuple[int, SampleResult]


def one_sample(
    prompt: Prompt,
    responses: Sequence[str],
    context: Sequence[str] = (),
    offsets: Offsets | None = None,
) -> dict[str, Any]:
    """The fields of a `Sample` from what callers have at hand."""
    for field, texts in (("responses", responses), ("context", context)):
        if isinstance(texts, str):
            raise InvalidRequest(f"{field} is one string; give a list of strings.", field=field)
    is_text = isinstance(prompt, str)
    return {
        "prompt": prompt if is_text else None,
        "messages": None if is_text else tuple(map(_message, prompt)),
        "responses": tuple(responses),
        "context": tuple(context),
        "offsets": None
        if offsets is None
        else tuple(
            None if spans is None else tuple((start, end) for start, end in spans)
            for spans in offsets
        ),
    }


def _message(message: Message | Mapping[str, str]) -> Message:
    return message if isinstance(message, Message) else Message(**message)


def checked(options: Options) -> dict[str, Any]:
    """Options in the contract's types.

    Raises:
        InvalidRequest: a value is no member of its enumeration, or an empty list or map was
            given, which the
            two doors could not agree on (protobuf cannot tell it from one left out).
    """
    known: dict[str, Any] = dict(options)
    for field, kind in (("aggregation", Aggregation), ("truncate", Truncate)):
        if field in known:
            known[field] = _member(kind, known[field], field)
    for field, kind in (("heads", tuple), ("weights", dict)):
        if known.get(field) is not None:
            known[field] = kind(known[field])
            if not known[field]:
                raise InvalidRequest(f"{field} is empty; leave it out for all heads.", field=field)
    return known


def _member(kind: type[E], value: str, field: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(
            f"{field} is {value!r}{nearest(str(value), kind)}", field=field
        ) from None


def _stream_options(in_flight: int, options: Options) -> dict[str, Any]:
    if in_flight < 1:
        raise InvalidRequest(f"in_flight is {in_flight}; give at least 1.", field="in_flight")
    return checked(options)


def _failed(sample: Sample, error: TureenError) -> SampleResult:
    if isinstance(error, _FATAL):
        raise error
    return SampleResult(id=sample.id, error=error.info())


class Caller(Protocol):
    def __call__(self, call: Call) -> Any: ...


class AsyncCaller(Protocol):
    async def __call__(self, call: Call) -> Any: ...


class Surface:
    """What all clients are made from.

    Args:
        address: of the service. "http://localhost:8080", "https://…"; over gRPC "localhost:8081",
            "grpcs://…" (TLS).
        api_key: sent as `Authorization: Bearer`.
        timeout_s: budget of a call, retries included; the server drops work that can no longer be
            in time.
        retry: when to try again.
        priority: lane of the server's queue, "interactive" or "bulk".
        max_client_batch_size: responses in one request; None asks the server.
        root_certificates: PEM file to trust instead of the system's certificates.
        transport: in place of the network: a transport of httpx2, a channel of grpc. Closed with
            the client.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        priority: Priority | str = Priority.INTERACTIVE,
        max_client_batch_size: int | None = None,
        root_certificates: str | Path | None = None,
        transport: Any = None,
    ) -> None:
        self._flow = Flow(
            address, timeout_s=timeout_s, retry=retry, max_client_batch_size=max_client_batch_size
        )
        self._headers = {"x-priority": _member(Priority, priority, "priority").value}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._open(address, root_certificates, transport)

    def _open(self, address: str, root_certificates: str | Path | None, transport: Any) -> None:
        raise NotImplementedError


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
    ) -> Iterator[Indexed]:
        """(index of the sample, its result) as they finish, in any order; `timeout_s` holds for
        each sample.

        `samples` is read in the caller's thread, at most `in_flight` ahead of the results. Errors
        of samples stand in their results; those that would meet every sample (no service, no
        permission) are raised.
        """
        known = _stream_options(in_flight, options)
        self._run(self._flow.learn(), self._call)
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="tureen-stream")
        waiting: dict[Future[SampleResult], int] = {}
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

    def _one(self, request: ScoreRequest, call: Caller) -> SampleResult:
        try:
            return self._run(self._flow.score(request), call).results[0]
        except TureenError as error:
            return _failed(request.samples[0], error)

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

    def healthy(self) -> bool:
        """Does the process live? One question, no retries; False also when nobody answers."""
        return self._probe(ready=False)

    def ready(self) -> bool:
        """Would it score now? One question, no retries; False also when nobody answers."""
        return self._probe(ready=True)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self, steps: Steps[T], call: Caller) -> T:
        """Drives a flow: does what it yields and sends it what came of that."""

        def attempt(one: Call) -> Any:
            try:
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
    ) -> AsyncIterator[Indexed]:
        """As `SyncSurface.stream`; an asynchronous source is read while results are waited for."""
        known = _stream_options(in_flight, options)
        await self._run(self._flow.learn(), self._call)
        source = _numbered(samples)
        tasks: dict[asyncio.Task[SampleResult], int] = {}
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

    async def _one(self, request: ScoreRequest, call: AsyncCaller) -> SampleResult:
        try:
            return (await self._run(self._flow.score(request), call)).results[0]
        except TureenError as error:
            return _failed(request.samples[0], error)

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

    async def healthy(self) -> bool:
        return await self._probe(ready=False)

    async def ready(self) -> bool:
        return await self._probe(ready=True)

    async def close(self) -> None:
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
) -> AsyncGenerator[tuple[int, Sample]]:
    index = 0
    if isinstance(samples, AsyncIterable):
        async for sample in samples:
            yield index, sample
            index += 1
    else:
        for index, sample in enumerate(samples):
            yield index, sample
