"""The HTTP door: FastAPI over one Scorer. Routes only; what both doors share is `Admission`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from tureen._version import __version__
from tureen.contracts import (
    ModelInfo,
    ModelList,
    RankRequest,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
)
from tureen.engine.scoring import Scoring
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    TureenError,
    nearest,
    quoted,
)
from tureen.transports import asgi, compat, console, openapi, soup_routes
from tureen.transports.admission import (
    RETRY_AFTER_S,
    Admission,
    CallerGone,
    check_size,
    deadline_of,
    priority_of,
)
from tureen.transports.json_body import JsonBody
from tureen.transports.query import check_query
from tureen.transports.reply import error_headers, json_reply, timing_headers

T = TypeVar("T")
CLIENT_CLOSED_REQUEST = 499  # nginx's status for it; nobody is there to read it


def create_app(admission: Admission) -> FastAPI:
    """The ASGI application of the HTTP door."""
    app = FastAPIOffline(
        title="Tureen",
        version=__version__,
        description="Reward models as a service: text in, a reward with its reasons out.",
        redoc_url=None,
        redirect_slashes=False,  # it would send a caller behind a TLS proxy to http
    )
    asgi.build(app, admission)
    openapi.install(app)
    _answer_every_error(app, admission)
    answer, look_up = _answering(admission), _looking_up(admission)
    drop_ins = compat.Door(app, admission, answer, look_up)
    _scoring_routes(app, answer, drop_ins)  # first: routes are tried in their order
    compat.install(drop_ins)
    _model_routes(app, look_up)
    soup_routes.install(app, admission, _answering(admission, admin=True))
    _operating_routes(app, admission)
    console.install(app)
    return app


def _answering(admission: Admission, *, admin: bool = False) -> compat.Answer:
    """The way of every request that scores, or that wants an admin key, from headers to answer."""

    async def answer(request: Request, route: str, work: compat.Work) -> Response:
        headers = request.headers
        with admission.recorded("http", route) as record:
            admission.authenticate(headers.get("authorization"), admin=admin)
            admission.scorer()  # refuses before the body is read; who sends it slowly is not admitted
            deadline_ns = deadline_of(headers.get("x-request-timeout-ms"))
            terms = {
                "deadline_ns": deadline_ns,
                "priority": priority_of(headers.get("x-priority")),
            }
            body = await _read(request, admission, deadline_ns)
            with admission.admitted() as scorer:
                answered = await _while_connected(request, work(scorer, body, terms))
                failure = record.failure(answered)
        if failure is not None:
            raise failure
        if isinstance(answered, ScoreResponse | RankResponse):
            return json_reply(answered, headers=timing_headers(answered.timings))
        assert isinstance(answered, Response)
        return answered

    return answer


def _looking_up(admission: Admission) -> compat.LookUp:
    def look_up(request: Request, route: str, what: Callable[[Scoring], object]) -> Response:
        with admission.recorded("http", route):
            admission.authenticate(request.headers.get("authorization"))
            with admission.admitted() as scorer:
                return json_reply(what(scorer))

    return look_up


def _scoring_routes(app: FastAPI, answer: compat.Answer, drop_ins: compat.Door) -> None:
    rank_body = JsonBody(RankRequest)
    score_or_pairs = drop_ins.handler(
        compat.Handling(parse=compat.native_or_pairs, label="score", errors=compat.NATIVE)
    )

    @app.post(
        "/v1/score",
        openapi_extra=openapi.operation(
            asks=ScoreRequest, answers=ScoreResponse, errors=openapi.SCORING_ERRORS
        ),
    )
    async def score(request: Request) -> Response:
        """Score the responses of one or more samples.

        A sample that cannot be scored carries an error of its own. The status is that of the
        first error only when no sample could be scored. vLLM's body, with text_1 and text_2, is
        answered as on /score.
        """
        return await score_or_pairs(request)

    @app.post(
        "/v1/rank",
        openapi_extra=openapi.operation(
            asks=RankRequest, answers=RankResponse, errors=openapi.SCORING_ERRORS
        ),
    )
    async def rank(request: Request) -> Response:
        """Order the responses to one prompt, best first, with pairwise win probabilities."""

        async def ranked(scorer: Scoring, body: bytes, terms: dict[str, Any]) -> RankResponse:
            check_query(request.query_params)
            return await scorer.rank(rank_body.parse(body), **terms)

        return await answer(request, "rank", ranked)


def _model_routes(app: FastAPI, look_up: compat.LookUp) -> None:
    @app.get("/models", include_in_schema=False)
    @app.get(
        "/v1/models",
        openapi_extra=openapi.operation(answers=ModelList, errors=openapi.LOOKUP_ERRORS[1:]),
    )
    async def list_models(request: Request) -> Response:
        """The models that are served, and which of them answers when none is named."""
        return look_up(request, "models", lambda scorer: scorer.models())

    @app.get(
        "/v1/models/{model_id:path}",
        openapi_extra=openapi.operation(answers=ModelInfo, errors=openapi.LOOKUP_ERRORS),
    )
    async def get_model(request: Request, model_id: str) -> Response:
        """Heads, ingredients, limits, backend and fingerprint of one model."""
        return look_up(request, "model", lambda scorer: scorer.model(model_id))


def _operating_routes(app: FastAPI, admission: Admission) -> None:
    @app.get("/v2/health/live", include_in_schema=False)
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Response:
        """200 while the process lives."""
        return json_reply({"status": "ok"})

    @app.get("/health", include_in_schema=False)
    @app.get("/ping", include_in_schema=False)
    @app.get("/infinity/health", include_in_schema=False)
    @app.get("/v2/health/ready", include_in_schema=False)
    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", openapi_extra=openapi.operation(errors=openapi.READINESS_ERRORS))
    async def readyz() -> Response:
        """200 when scores can be expected; otherwise 503 with the reason."""
        ready, reason = admission.ready()
        if not ready:
            raise Overloaded(f"Not ready: {reason}.", retry_after_s=RETRY_AFTER_S)
        return json_reply({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(await admission.exposition(), media_type=CONTENT_TYPE_LATEST)


def _answer_every_error(app: FastAPI, admission: Admission) -> None:
    @app.exception_handler(TureenError)
    async def on_error(request: Request, error: TureenError) -> Response:
        return _error(error, error.http_status)

    @app.exception_handler(CallerGone)
    async def on_caller_gone(request: Request, error: CallerGone) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def on_surprise(request: Request, error: Exception) -> Response:
        """Outside scoring, which has its own; uvicorn logs the exception."""
        failure = BackendFailure("The server failed; its log has the details. Try again.")
        return _error(failure, failure.http_status)

    @app.exception_handler(HTTPException)
    async def on_no_route(request: Request, error: HTTPException) -> Response:
        """Starlette's own: no such route, or not with this method."""
        paths = {
            route.path_format
            for route in app.routes
            if isinstance(route, APIRoute) and route.include_in_schema
        }
        path, allowed = request.url.path, (error.headers or {}).get("Allow")
        if allowed:
            message = f"{path} does not answer {request.method}. Send {allowed}."
        else:
            message = f"{path[:80]!r} is not a route{nearest(path, paths)}."
        try:
            with admission.recorded("http", "other"):
                raise InvalidRequest(message)
        except InvalidRequest as refusal:
            return _error(refusal, error.status_code, error.headers)


async def _read(request: Request, admission: Admission, deadline_ns: int | None) -> bytes:
    """The body; raises PayloadTooLarge as soon as it is known to be too large, InvalidRequest where
    it is compressed."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        request.scope[asgi.UNREAD] = True
        raise InvalidRequest(
            f"Content-Encoding is {quoted(encoding)}; bodies are read as they come; send it without.",
            field="content-encoding",
        )
    limit, length = admission.config.max_body_bytes, request.headers.get("content-length", "")
    check_size(int(length) if length.isdecimal() else 0, limit)
    patience_s = admission.config.receive_timeout_s
    left_s = patience_s
    if deadline_ns is not None:
        left_s = min(patience_s, (deadline_ns - time.monotonic_ns()) / 1e9)
    pieces, size = [], 0
    try:
        async with asyncio.timeout(left_s):
            async for piece in request.stream():
                size += len(piece)
                check_size(size, limit)
                pieces.append(piece)
    except ClientDisconnect:
        raise CallerGone from None
    except asyncio.CancelledError:
        admission.scorer()  # a server that leaves waits for no body, but says so
        raise
    except TimeoutError:
        request.scope[asgi.UNREAD] = True
        raise DeadlineExceeded(
            f"Time was up when {size} bytes of the body had come; give more in "
            f"X-Request-Timeout-Ms, and send the body within {patience_s:g} s (receive_timeout_s)."
        ) from None
    return b"".join(pieces)


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The outcome of `work`, which is cancelled when the connection closes first."""
    task, gone = asyncio.current_task(), False
    assert task is not None

    async def disconnect() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.create_task(disconnect())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise CallerGone from None
    finally:
        watching.cancel()


def _error(error: TureenError, status: int, headers: Any = None) -> Response:
    return json_reply({"error": error.info()}, status, error_headers(error, status, headers))
