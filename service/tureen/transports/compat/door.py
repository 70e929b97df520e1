"""The way of a drop-in request: body → samples → scores → one number each → a body of theirs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response

from tureen.contracts import Priority, ScoreRequest
from tureen.engine.scoring import Scoring
from tureen.errors import TureenError
from tureen.transports import openapi
from tureen.transports.admission import Admission
from tureen.transports.compat.ask import Ask, Call, score
from tureen.transports.compat.shapes import ErrorShape
from tureen.transports.query import check_query
from tureen.transports.reply import error_headers, json_reply

Work = Callable[[Scoring, bytes, dict[str, Any]], Awaitable[object]]
Answer = Callable[[Request, str, Work], Awaitable[Response]]
"""Request, route label of the metrics, and the work, whose result is a contract or a response."""
LookUp = Callable[[Request, str, Callable[[Scoring], object]], Response]
"""The same of requests that ask about what is served."""

Parse = Callable[[Call], Ask | ScoreRequest]
"""A `ScoreRequest` is answered as Tureen answers it."""

_OPTIONS: Mapping[str, Sequence[str]] = {"raw": ("0", "1"), "heads": ("all",)}
"""Query parameters of every drop-in route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done with the requests of a route.

    label: of metrics. errors: unless `parse` finds that the body is of another system.
    hold_s: how long a request waits for a model that is being loaded, and for permits.
    lane: of requests that name none. options: query parameters and their values, beside those of
    every route.
    """

    parse: Parse
    label: str
    errors: ErrorShape
    hold_s: float = 0.0
    lane: Priority = Priority.INTERACTIVE
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def known(self) -> Mapping[str, Sequence[str]]:
        """All query parameters and their values."""
        return {**_OPTIONS, **self.options}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Handling):
    """A route that scores, with its documentation.

    shared_with: errors of another system whose bodies come here.
    """

    asks: type
    answers: Any
    example: object
    summary: str
    shared_with: ErrorShape | None = None


class Door:
    """Where the modules put their routes."""

    def __init__(self, app: FastAPI, admission: Admission, answer: Answer, look_up: LookUp) -> None:
        self.app, self.strict_model = app, admission.config.strict_model
        self._admission, self._answer, self._look_up = admission, answer, look_up

    def post(self, path: str, route: Route) -> None:
        errors, other = route.errors, route.shared_with
        described = openapi.operation(
            asks=route.asks,
            answers=route.answers,
            errors=(*openapi.SCORING_ERRORS, *errors.also),
            example=route.example,
            error_body=errors.body,
            status=errors.status,
            query=route.known,
        )
        if other is not None:
            theirs = openapi.operation(
                errors=(*openapi.SCORING_ERRORS, *other.also),
                error_body=other.body,
                status=other.status,
            )
            described["responses"] = openapi.either(theirs["responses"], described["responses"])
        _describe_path(described, path)
        self.app.post(path, summary=route.summary, openapi_extra=described)(self.handler(route))

    def get(
        self,
        path: str,
        what: Callable[[Request, Scoring], object],
        *,
        route: str,
        errors: ErrorShape,
        summary: str,
        answers: Any = None,
    ) -> None:
        """A route that says what is served."""

        async def handle(request: Request) -> Response:
            try:
                return self._look_up(request, route, lambda scorer: what(request, scorer))
            except TureenError as error:
                return _refusal(errors, error)

        described = openapi.operation(
            answers=answers,
            errors=openapi.LOOKUP_ERRORS,
            error_body=errors.body,
            status=errors.status,
        )
        _describe_path(described, path)
        self.app.get(path, summary=summary, openapi_extra=described)(handle)

    def handler(self, handling: Handling) -> Callable[[Request], Awaitable[Response]]:
        known, hold_s = handling.known, handling.hold_s

        async def handle(request: Request) -> Response:
            shape = handling.errors

            async def work(scorer: Scoring, body: bytes, terms: dict[str, Any]) -> object:
                nonlocal shape
                if "x-priority" not in request.headers:
                    terms = terms | {"priority": handling.lane}
                call = Call(
                    scorer=scorer,
                    body=body,
                    query=request.query_params,
                    headers=request.headers,
                    known=known,
                    errors=handling.errors,
                    route=handling.label,
                    path=request.path_params,
                    admission=self._admission,
                )
                try:
                    ask = handling.parse(call)
                finally:
                    shape = call.errors
                terms = terms | {"patience_s": hold_s}
                if isinstance(ask, ScoreRequest):
                    check_query(call.query)
                    return await scorer.score(ask, **terms)
                return await score(call, ask, terms)

            try:
                if hold_s and self._admission.knows(request.headers.get("authorization")):
                    await self._admission.opened(hold_s)
                return await self._answer(request, handling.label, work)
            except TureenError as error:
                return _refusal(shape, error)

        return handle


def _refusal(shape: ErrorShape, error: TureenError) -> Response:
    status = shape.status(error)
    return json_reply(shape.content(error, status), status, error_headers(error, status))


def _describe_path(described: dict[str, Any], path: str) -> None:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", path)
    ]
    described["parameters"] = [*named, *described.get("parameters", ())]
