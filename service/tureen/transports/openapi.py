"""What /openapi.json says of the routes, from the contracts and the error table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tureen.contracts import (
    ErrorInfo,
    ModelInfo,
    ModelList,
    Priority,
    RankRequest,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
)
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InputTooLong,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    TureenError,
    Unauthenticated,
    UnknownHead,
    UnknownModel,
)

SCORING_ERRORS = (
    InvalidRequest,
    InputTooLong,
    UnknownModel,
    UnknownHead,
    PayloadTooLarge,
    Unauthenticated,
    Overloaded,
    DeadlineExceeded,
    BackendFailure,
)
LOOKUP_ERRORS = (UnknownModel, Unauthenticated, Overloaded)
READINESS_ERRORS = (Overloaded,)

HEADERS = [
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "Drop the work, and answer 504, after so many milliseconds.",
        "schema": {"type": "number", "minimum": 0},
    },
    {
        "name": "X-Priority",
        "in": "header",
        "description": "Lane of the queue; the two share the device fairly.",
        "schema": {"type": "string", "enum": list(Priority), "default": Priority.INTERACTIVE},
    },
]
_RESPONSES = [
    "Rembrandt painted it in 1642.",
    "Vermeer painted it. I like tulips.",
]
_SAMPLE = {
    "prompt": "Who painted the Night Watch, and when?",
    "context": ["The Night Watch is a 1642 painting by Rembrandt van Rijn."],
    "responses": _RESPONSES,
}
EXAMPLES = {
    ScoreRequest: {"samples": [{"id": "q1", **_SAMPLE}], "uncertainty": True},
    RankRequest: _SAMPLE,
}


@dataclass(frozen=True)
class ErrorBody:
    """The body of every answer that is not a success."""

    error: ErrorInfo


def operation(
    *,
    asks: type | None = None,
    answers: type | None = None,
    errors: tuple[type[TureenError], ...] = (),
) -> dict[str, Any]:
    """`openapi_extra` of a route: its body, its answer and the errors it may give."""
    extra: dict[str, Any] = {"responses": _error_answers(errors)}
    if asks is not None:
        content = {"schema": _reference(asks), "example": EXAMPLES[asks]}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
        extra["parameters"] = HEADERS
    if answers is not None:
        content = {"schema": _reference(answers)}
        extra["responses"]["200"] = {"content": {"application/json": content}}
    if Unauthenticated in errors:
        extra["security"] = [{"key": []}, {}]
    return extra


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` carry the schemas that `operation` refers to."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(_schemas())
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build


def _schemas() -> dict[str, Any]:
    read, written = (ScoreRequest, RankRequest), (ScoreResponse, RankResponse, ModelInfo, ModelList)
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *((kind.__name__, "validation", TypeAdapter(kind)) for kind in read),
        *((kind.__name__, "serialization", TypeAdapter(kind)) for kind in (*written, ErrorBody)),
    ]
    _, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return definitions["$defs"]


def _error_answers(errors: tuple[type[TureenError], ...]) -> dict[str, Any]:
    codes: dict[str, list[str]] = defaultdict(list)
    for kind in errors:
        codes[str(kind.http_status)].append(kind.code)
    return {
        status: {
            "description": ", ".join(names),
            "content": {"application/json": {"schema": _reference(ErrorBody)}},
        }
        for status, names in sorted(codes.items())
    }


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
