"""The way of a drop-in request: body → samples → scores → one number each → a body of theirs."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import FastAPI, Request, Response

from tureen.contracts import (
    Priority,
    Sample,
    SampleResult,
    Score,
    ScoreRequest,
    ScoreResponse,
    Truncate,
)
from tureen.engine.scoring import Scoring
from tureen.errors import InvalidRequest, TureenError, UnknownModel, nearest, quoted
from tureen.text.written import Split
from tureen.transports import openapi
from tureen.transports.admission import Admission
from tureen.transports.compat.shapes import ErrorShape
from tureen.transports.reply import error_headers, json_reply, timing_headers

Work = Callable[[Scoring, bytes, dict[str, Any]], Awaitable[object]]
Answer = Callable[[Request, str, Work], Awaitable[Response]]
"""Request, route label of the metrics, and the work, whose result is a contract or a response."""
LookUp = Callable[[Request, str, Callable[[Scoring], object]], Response]
"""The same of requests that ask about what is served."""

_SURENESS: tuple[Split, ...] = ("whole", "found", "given")


@dataclass(slots=True)
class Call:
    """One request. errors: may be set once it is known whose it is. known: query parameters and
    their values. path: parameters of the path. admission: of the server."""

    scorer: Scorer
    body: bytes
    query: Mapping[str, str]
    known: Mapping[str, Sequence[str]]
    errors: ErrorShape
    route: str
    path: dict[str, str]
    admission: Admission

    def option(self, name: str) -> str | None:
        return self.query.get(name)

    def check_options(self) -> None:
        """
        Raises:
            InvalidRequest: a query parameter that is not known, or has another value.
        """
        for name, value in self.query.items():
            if name not in self.known:
                raise InvalidRequest(
                    f"{quoted(name)} is not a query parameter here{nearest(name, self.known)}",
                    field=name,
                )
            if value not in self.known[name]:
                raise InvalidRequest(
                    f"query parameter {name} is {quoted(value)}; it can be "
                    f"{', '.join(self.known[name])}; send that, or leave it out.",
                    field=name,
                )

    def activated(self, asked: bool | None, system: str) -> bool:
        """Whether rewards go through a sigmoid. asked: None where the request does not say."""
        if asked is not None:
            return asked
        return system in self.admission.config.upstream_activation

    def served(self, model: str | None) -> str | None:
        """The model to ask. Where one is served, whatever the client calls it is that one: trainers
        send the path of their own checkpoint.

        Raises:
            UnknownModel: another name, where the server was told to be strict.
        """
        ids = [info.id for info in self.scorer.models().models]
        if model is None or model in ids or len(ids) > 1:
            return model
        if self.admission.config.strict_model:
            raise UnknownModel(
                f"model {quoted(model)} is not served{nearest(model, ids)} (strict_model)",
                field="model",
                got=model,
            )
        self.admission.metrics.other_name(self.route)
        return None

    def max_input_tokens(self) -> int:
        return self.scorer.model().limits.max_input_tokens


@dataclass(kw_only=True)
class Ask:
    """What a body asks for.

    places: where each sample stands in the body. split: how prompts were told apart, where texts
    came in one string. reply: the body of the answer, or a whole response.
    """

    samples: Sequence[Sample]
    places: Sequence[str]
    reply: Callable[[Scored], object]
    model: str | None = None
    truncate: Truncate = Truncate.NEVER
    activated: bool = False
    splits: Sequence[Split] = ()


@dataclass(kw_only=True)
class Scored:
    """What a reply is made of; one entry a response, in the order of the request.

    model: as it was asked for. numbers: rewards, after the activation that was asked for.
    heads: what each head says, in the model's order; raw values where the request asks for raw=1.
    """

    model: str
    numbers: list[float]
    heads: list[dict[str, float]]
    scores: list[Score]
    call: Call

    @property
    def tokens(self) -> int:
        return sum(score.tokens for score in self.scores)

    @property
    def all_heads(self) -> bool:
        return self.call.option("heads") == "all"

    def vector(self, index: int) -> tuple[float, ...]:
        """The reward; behind the heads where all heads are asked for."""
        heads = self.heads[index].values() if self.all_heads else ()
        return (*heads, self.numbers[index])


Parse = Callable[[Call], Ask | ScoreRequest]
"""A `ScoreRequest` is answered as Tureen answers it."""

_OPTIONS: Mapping[str, Sequence[str]] = {"raw": ("0", "1"), "heads": ("all",)}
"""Query parameters of every drop-in route."""


class Door:
    """Where the modules put their routes."""

    def __init__(self, app: FastAPI, admission: Admission, answer: Answer, look_up: LookUp) -> None:
        self.app, self.strict_model = app, admission.config.strict_model
        self._admission, self._answer, self._look_up = admission, answer, look_up

    def post(
        self,
        path: str,
        parse: Parse,
        *,
        route: str,
        errors: ErrorShape,
        asks: type,
        answers: Any,
        example: object,
        summary: str,
        hold_s: float = 0.0,
        lane: Priority = Priority.INTERACTIVE,
        options: Mapping[str, Sequence[str]] | None = None,
        shared_with: ErrorShape | None = None,
    ) -> None:
        """A route and its documentation; see `handler`.

        Args:
            options: beside those of every route.
            shared_with: errors of another system whose bodies come here.
        """
        known = {**_OPTIONS, **(options or {})}
        handle = self.handler(
            parse, route=route, errors=errors, hold_s=hold_s, lane=lane, options=known
        )
        described = openapi.operation(
            asks=asks,
            answers=answers,
            errors=(*openapi.SCORING_ERRORS, *errors.also),
            example=example,
            error_body=errors.body,
            status=errors.status,
            query=known,
        )
        if shared_with is not None:
            theirs = openapi.operation(
                errors=(*openapi.SCORING_ERRORS, *shared_with.also),
                error_body=shared_with.body,
                status=shared_with.status,
            )
            described["responses"] = openapi.either(theirs["responses"], described["responses"])
        _describe_path(described, path)
        self.app.post(path, summary=summary, openapi_extra=described)(handle)

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
                status = errors.status(error)
                return json_reply(
                    errors.content(error, status), status, error_headers(error, status)
                )

        described = openapi.operation(
            answers=answers,
            errors=openapi.LOOKUP_ERRORS,
            error_body=errors.body,
            status=errors.status,
        )
        _describe_path(described, path)
        self.app.get(path, summary=summary, openapi_extra=described)(handle)

    def handler(
        self,
        parse: Parse,
        *,
        route: str,
        errors: ErrorShape,
        hold_s: float = 0.0,
        lane: Priority = Priority.INTERACTIVE,
        options: Mapping[str, Sequence[str]] = _OPTIONS,
    ) -> Callable[[Request], Awaitable[Response]]:
        """
        Args:
            route: the label of metrics.
            errors: unless `parse` finds that the body is of another system.
            hold_s: how long a request waits for a model that is being loaded, and for permits.
            lane: of requests that name none.
            options: query parameters and their values.
        """

        async def handle(request: Request) -> Response:
            shape = errors

            async def work(scorer: Scoring, body: bytes, terms: dict[str, Any]) -> object:
                nonlocal shape
                if "x-priority" not in request.headers:
                    terms = terms | {"priority": lane}
                call = Call(
                    scorer=scorer,
                    body=body,
                    query=request.query_params,
                    known=options,
                    errors=errors,
                    route=route,
                    path=request.path_params,
                    admission=self._admission,
                )
                try:
                    ask = parse(call)
                finally:
                    shape = call.errors
                terms = terms | {"patience_s": hold_s}
                if isinstance(ask, ScoreRequest):
                    return await scorer.score(ask, **terms)
                return await _score(call, ask, terms)

            try:
                if hold_s and self._admission.knows(request.headers.get("authorization")):
                    await self._admission.opened(hold_s)
                return await self._answer(request, route, work)
            except TureenError as error:
                status = shape.status(error)
                return json_reply(
                    shape.content(error, status), status, error_headers(error, status)
                )

        return handle


def _describe_path(described: dict[str, Any], path: str) -> None:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", path)
    ]
    described["parameters"] = [*named, *described.get("parameters", ())]


async def _score(call: Call, ask: Ask, terms: dict[str, Any]) -> object:
    """The HTTP response; or, when a sample failed, a `ScoreResponse` that is nothing but its error."""
    call.check_options()
    if ask.activated and call.option("heads"):
        raise InvalidRequest(
            "an activation and heads=all were asked for; an activation is of one number; send one "
            "of the two.",
            field="heads",
        )
    response: ScoreResponse | None = None
    if ask.samples:
        response = await call.scorer.score(
            ScoreRequest(
                model=call.served(ask.model),
                samples=tuple(ask.samples),
                segments=False,
                truncate=ask.truncate,
            ),
            **terms,
        )
        failed = _first_failure(response, ask.places)
        if failed is not None:
            return replace(response, results=(failed,))
    scored = _scored(call, ask, response)
    headers = {"x-tureen-activation": "sigmoid" if ask.activated else "none"}
    if response is not None:
        cut = sum(score.truncated_tokens > 0 for score in scored.scores)
        characters = sum(len(text) for sample in ask.samples for text in _texts(sample))
        headers |= timing_headers(response.timings) | {
            "x-compute-type": call.scorer.model().device.partition(":")[0],
            "x-compute-characters": str(characters),
            "x-compute-tokens": str(scored.tokens),
            "x-tureen-fingerprint": response.fingerprint,
            "x-tureen-truncated": str(cut),
        }
    if ask.splits:
        headers["x-tureen-split"] = min(ask.splits, key=_SURENESS.index)
    return json_reply(ask.reply(scored), headers=headers)


def _first_failure(response: ScoreResponse, places: Sequence[str]) -> SampleResult | None:
    for result, place in zip(response.results, places, strict=True):
        if result.error is not None:
            error = result.error
            message = f"{place}: {error.message}"
            return SampleResult(error=replace(error, message=message, field=place))
    return None


def _scored(call: Call, ask: Ask, response: ScoreResponse | None) -> Scored:
    raw = call.option("raw") == "1"
    scores = (
        [score for result in response.results for score in result.scores or ()] if response else []
    )
    info = call.scorer.model(response.model if response else None)
    weights = {head.name: head.weight for head in info.heads}
    heads = [
        {name: head.value if raw else head.calibrated for name, head in score.heads.items()}
        for score in scores
    ]
    numbers = [score.reward for score in scores]
    if raw:
        numbers = [sum(weights[name] * value for name, value in one.items()) for one in heads]
    if ask.activated:
        numbers = [sigmoid(number) for number in numbers]
    return Scored(
        model=ask.model if ask.model is not None else info.id,
        numbers=numbers,
        heads=heads,
        scores=scores,
        call=call,
    )


def sigmoid(number: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow on either side."""
    if number >= 0:
        return 1 / (1 + math.exp(-number))
    grown = math.exp(number)
    return grown / (1 + grown)


def _texts(sample: Sample) -> Sequence[str]:
    before = [sample.prompt] if sample.prompt is not None else []
    return [*before, *(one.content for one in sample.messages or ()), *sample.responses]


Order = Literal["first", "last"]


def descending(numbers: Sequence[float], ties: Order) -> list[int]:
    """Indices, greatest first; of equals the first, or the last, comes first."""
    indices = range(len(numbers))
    if ties == "last":
        return sorted(indices, key=lambda index: (numbers[index], index), reverse=True)
    return sorted(indices, key=lambda index: -numbers[index])
