"""The gRPC door: RewardService, health and reflection over the same engine as HTTP.

Messages are taken as bytes and parsed here, so that what is malformed, too large or unknown is
answered from the same error table as everything else. An error travels as google.rpc.Status in the
trailing metadata, with a tureen.v1.Error and, where waiting helps, a RetryInfo.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from tureen import wire
from tureen.contracts import (
    CreateSoupRequest,
    RankRequest,
    RankResponse,
    SampleResult,
    ScoreRequest,
    ScoreResponse,
)
from tureen.engine.caller import CALLER
from tureen.engine.scoring import Scoring, SoupKeeping
from tureen.errors import DeadlineExceeded, InvalidRequest, TureenError
from tureen.transports.admission import Admission, check_size, priority_of
from tureen.transports.callers import REQUEST_ID, enter
from tureen.transports.reply import timing_headers
from tureen.transports.soup_routes import administrator
from tureen.v1 import reward_pb2

Context = grpc.aio.ServicerContext
Metadata = Mapping[str, str]
Terms = dict[str, Any]
Work = Callable[[Scoring, bytes, Terms], Awaitable[object]]
T = TypeVar("T")

SERVICE = reward_pb2.DESCRIPTOR.services_by_name["RewardService"].full_name
SOUP_SERVICE = reward_pb2.DESCRIPTOR.services_by_name["SoupService"].full_name
IN_FLIGHT_PER_STREAM = 256
RECEIVE_FACTOR = 4  # messages up to so many times max_body_bytes are read, to be refused by name
HANDSHAKE_TIMEOUT_MS = 20_000
STREAMS_PER_CONNECTION = 1024  # calls at once; a client's further ones wait on its side
KEEPALIVE_MS = 60_000
IDLE_MS = 15 * 60_000
STATUS_CHARACTERS, ERROR_CHARACTERS = 256, 1024  # metadata beyond 8 KiB is lost on the way


def create_server(
    admission: Admission, *, shared_port: bool = False
) -> tuple[grpc.aio.Server, Health]:
    """The server with its services, bound to no port yet, and the health it reports."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", RECEIVE_FACTOR * admission.config.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            # Else a second server binds the same port in silence and takes half the connections.
            ("grpc.so_reuseport", int(shared_port)),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
            ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", admission.config.max_connections),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),  # a half-open connection is found out
            ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),  # clients' own
            ("grpc.max_connection_idle_ms", IDLE_MS),
        ]
    )
    server.add_generic_rpc_handlers((RewardService(admission).handlers(), soup_handlers(admission)))
    state = Health(admission)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    names = (SERVICE, SOUP_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server, state


class Health(health.aio.HealthServicer):  # pyright: ignore[reportAttributeAccessIssue]
    """grpc.health.v1 for "" and for the services, all as ready as the scorer is."""

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission
        self._serving: bool | None = None

    async def refresh(self) -> None:
        """Tells the watchers when the readiness has changed."""
        serving, _ = self._admission.ready()
        if serving != self._serving:
            self._serving = serving
            status = health_pb2.HealthCheckResponse.ServingStatus
            for service in ("", SERVICE, SOUP_SERVICE):
                await self.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        await self.refresh()
        return await super().Check(request, context)


class RewardService:
    """The methods of tureen.v1.RewardService over raw messages."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def handlers(self) -> grpc.GenericRpcHandler:
        methods = {
            "Score": _unary(self._admission, "score", _score),
            "Rank": _unary(self._admission, "rank", _rank),
            "GetModel": _unary(self._admission, "model", _get_model),
            "ListModels": _unary(self._admission, "models", _list_models),
            "ScoreStream": grpc.stream_stream_rpc_method_handler(self.score_stream),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def score_stream(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answers each message when it is done. At most IN_FLIGHT_PER_STREAM are read ahead: beyond
        that the flow control of the connection holds the caller back."""
        metadata = _enter(context)
        try:
            self._admission.authenticate(metadata.get("authorization"))
            terms = _terms(context, metadata)
        except TureenError as error:
            with suppress(TureenError), self._admission.recorded("grpc", "stream"):
                raise
            await _abort(context, error)
        slots, writing = asyncio.Semaphore(IN_FLIGHT_PER_STREAM), asyncio.Lock()

        async def answer(raw: bytes) -> None:
            try:
                response = await self._stream_answer(raw, terms)
                async with writing:
                    with suppress(grpc.aio.InternalError):  # the caller left; what is read says so
                        await context.write(_written(response))
            finally:
                slots.release()

        async with asyncio.TaskGroup() as tasks:
            async for raw in requests:
                await slots.acquire()
                tasks.create_task(answer(raw))

    async def _stream_answer(self, raw: bytes, terms: Terms) -> ScoreResponse:
        request = ScoreRequest(samples=())
        if (caller := CALLER.get()) is not None:  # each message has its own trace and text
            CALLER.set(replace(caller, samples=[]))
        try:
            admission = self._admission
            with admission.recorded("grpc", "stream") as record, admission.admitted() as scorer:
                check_size(len(raw), admission.config.max_body_bytes)
                request = _read_score(scorer, raw)
                response = await _score_named(scorer, request, terms)
                record.failure(response)
                return response
        except TureenError as error:
            ids = [sample.id for sample in request.samples] or [None]
            results = tuple(SampleResult(id=id_, error=error.info()) for id_ in ids)
            return ScoreResponse(
                model=request.model or "", fingerprint="", soup="", results=results
            )


def soup_handlers(admission: Admission) -> grpc.GenericRpcHandler:
    """The methods of tureen.v1.SoupService over raw messages; all of them want an admin key."""

    def soups_of(request: Any) -> SoupKeeping:
        return admission.soups(request.model if request.HasField("model") else None)

    async def list_soups(scorer: Scoring, raw: bytes, terms: Terms) -> object:
        return await soups_of(wire.parse(reward_pb2.ListSoupsRequest, raw)).list()

    async def create(scorer: Scoring, raw: bytes, terms: Terms) -> object:
        request = _read(CreateSoupRequest, raw)
        soups = admission.soups(request.model)
        return await soups.create(request.coefficients, administrator())

    async def activate(scorer: Scoring, raw: bytes, terms: Terms) -> object:
        request = wire.parse(reward_pb2.ActivateSoupRequest, raw)
        return await soups_of(request).activate(request.fingerprint, administrator())

    async def shadow(scorer: Scoring, raw: bytes, terms: Terms) -> object:
        request = wire.parse(reward_pb2.ShadowSoupRequest, raw)
        return await soups_of(request).shadow(request.fingerprint, administrator())

    async def rollback(scorer: Scoring, raw: bytes, terms: Terms) -> object:
        request = wire.parse(reward_pb2.RollbackSoupRequest, raw)
        named = request.fingerprint if request.HasField("fingerprint") else None
        return await soups_of(request).rollback(named, administrator())

    works: dict[str, Work] = {
        "ListSoups": list_soups,
        "CreateSoup": create,
        "ActivateSoup": activate,
        "ShadowSoup": shadow,
        "RollbackSoup": rollback,
    }
    methods = {name: _unary(admission, "soups", work, admin=True) for name, work in works.items()}
    return grpc.method_handlers_generic_handler(SOUP_SERVICE, methods)


def _unary(
    admission: Admission, route: str, work: Work, *, admin: bool = False
) -> grpc.RpcMethodHandler:
    async def method(requests: AsyncIterator[bytes], context: Context) -> bytes:
        metadata = _enter(context)
        try:
            with admission.recorded("grpc", route) as record:
                admission.authenticate(metadata.get("authorization"), admin=admin)
                admission.scorer()  # as over HTTP, before the message is read
                raw = await _message(requests, admission.config.receive_timeout_s)
                with admission.admitted() as scorer:
                    check_size(len(raw), admission.config.max_body_bytes)
                    terms = _terms(context, metadata)
                    answer = await _until_deadline(context, work(scorer, raw, terms))
                    failure = record.failure(answer)
            if failure is not None:
                raise failure
            if isinstance(answer, ScoreResponse | RankResponse):
                with suppress(grpc.aio.InternalError):  # the caller left; what is written says so
                    await context.send_initial_metadata(
                        tuple(timing_headers(answer.timings).items())
                    )
            return _written(answer)
        except TureenError as error:
            await _abort(context, error)

    # On the wire one message is a stream of one. Declared unary, it would be read, up to its bound in
    # size, before anybody could ask whose it is.
    return grpc.stream_unary_rpc_method_handler(method)


async def _message(requests: AsyncIterator[bytes], patience_s: float) -> bytes:
    try:
        async with asyncio.timeout(patience_s):
            async for raw in requests:
                return raw
    except TimeoutError:
        raise DeadlineExceeded(
            f"Time was up before the message was there; send it within {patience_s:g} s "
            "(receive_timeout_s)."
        ) from None
    raise InvalidRequest("the call came without a message; send one.")


async def _score(scorer: Scoring, raw: bytes, terms: Terms) -> object:
    return await scorer.score(_read_score(scorer, raw), **terms)


async def _rank(scorer: Scoring, raw: bytes, terms: Terms) -> object:
    return await scorer.rank(_read(RankRequest, raw), **terms)


async def _get_model(scorer: Scoring, raw: bytes, terms: Terms) -> object:
    request = wire.parse(reward_pb2.GetModelRequest, raw)
    return scorer.model(request.model if request.HasField("model") else None)


async def _list_models(scorer: Scoring, raw: bytes, terms: Terms) -> object:
    wire.parse(reward_pb2.ListModelsRequest, raw)
    return scorer.models()


async def _score_named(scorer: Scoring, request: ScoreRequest, terms: Terms) -> ScoreResponse:
    """The answer to one message of a stream; a sample without an id could not be told apart."""
    named = tuple(sample for sample in request.samples if sample.id is not None)
    nameless = [
        InvalidRequest(
            f"samples[{place}] has no id; answers of a stream come in any order. Give it one.",
            field=f"samples[{place}].id",
        )
        for place, sample in enumerate(request.samples)
        if sample.id is None
    ]
    if nameless and not named:
        raise nameless[0]
    response = await scorer.score(replace(request, samples=named), **terms)
    for error in nameless:
        scorer.metrics.error(error.code)
    scored, refused = iter(response.results), iter(nameless)
    results = (
        next(scored) if sample.id is not None else SampleResult(error=next(refused).info())
        for sample in request.samples
    )
    return replace(response, results=tuple(results))


async def _until_deadline(context: Context, work: Awaitable[T]) -> T:
    """A call is cancelled when its deadline passes and when the caller leaves: tells them apart."""
    try:
        return await work
    except asyncio.CancelledError:
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded("The deadline of the call passed. Allow more time.") from None
        raise


async def _abort(context: Context, error: TureenError) -> NoReturn:
    status = rpc_status.to_status(status_of(error))
    named = context.trailing_metadata() or ()  # what abort is given would take its place
    await context.abort(status.code, status.details, (*named, *status.trailing_metadata))
    raise AssertionError("abort raises")


def status_of(error: TureenError) -> status_pb2.Status:
    """An error as google.rpc.Status; `tureen.v1.Error` in its details holds every field."""
    info = error.info()
    info = replace(info, message=info.message[:ERROR_CHARACTERS])
    details = [_packed(wire.to_proto(info))]
    if info.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(info.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    code, _ = getattr(grpc.StatusCode, error.grpc_status).value
    return status_pb2.Status(code=code, message=info.message[:STATUS_CHARACTERS], details=details)


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _read_score(scorer: Scoring, raw: bytes) -> ScoreRequest:
    message = wire.parse(reward_pb2.ScoreRequest, raw)
    scorer.check_size(message.samples)  # an empty sample is two bytes: millions fit in a message
    return wire.from_proto(ScoreRequest, message)


def _read(kind: type[T], raw: bytes) -> T:
    return wire.from_proto(kind, wire.parse(wire.MESSAGES[kind], raw))


def _written(contract: object) -> bytes:
    return wire.to_proto(contract).SerializeToString()


def _terms(context: Context, metadata: Metadata) -> Terms:
    left_s = context.time_remaining()
    deadline_ns = None if left_s is None else time.monotonic_ns() + int(left_s * 1e9)
    return {"deadline_ns": deadline_ns, "priority": priority_of(metadata.get("x-priority"))}


def _enter(context: Context) -> Metadata:
    """Who calls, in place for this task; their request id goes back as trailing metadata.

    Returns:
        What came with the call; of a name that came twice the first, as over HTTP.
    """
    metadata = {
        key: value.decode(errors="replace") if isinstance(value, bytes) else value
        for key, value in reversed(tuple(context.invocation_metadata() or ()))
    }
    context.set_trailing_metadata(((REQUEST_ID, enter(metadata).request_id),))
    return metadata
