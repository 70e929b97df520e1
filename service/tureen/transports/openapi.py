"""What /openapi.json says of the routes, from the contracts and the error table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tureen.contracts import (
    CreateSoupRequest,
    ErrorInfo,
    Priority,
    RankRequest,
    ScoreRequest,
)
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Forbidden,
    IncompatibleSoup,
    InputTooLong,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    QuotaExceeded,
    TureenError,
    Unauthenticated,
    UnknownHead,
    UnknownModel,
    UnknownSoup,
)

SCORING_ERRORS = (
    InvalidRequest,
    InputTooLong,
    UnknownModel,
    UnknownHead,
    PayloadTooLarge,
    Unauthenticated,
    QuotaExceeded,
    Overloaded,
    DeadlineExceeded,
    BackendFailure,
)
ADMIN_ERRORS = (
    InvalidRequest,
    UnknownModel,
    UnknownSoup,
    PayloadTooLarge,
    Unauthenticated,
    Forbidden,
    IncompatibleSoup,
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
EXAMPLE_SAMPLE: dict[str, Any] = {
    "prompt": "Who painted the Night Watch, and when?",
    "context": [
        "The Night Watch is a 1642 painting by Rembrandt van Rijn. It is in the Rijksmuseum."
    ],
    "responses": [
        "The Night Watch is a 1642 painting by Rembrandt van Rijn. It is in the Rijksmuseum.",
        "The Night Watch is a 1642 painting by Rembrandt van Rijn. Vermeer restored it.",
    ],
}
"""With evidence, which `grounded-qa` wants: what the server, the reference and the README show first."""

EXAMPLES = {
    ScoreRequest: {"samples": [{"id": "q1", **EXAMPLE_SAMPLE}], "uncertainty": True},
    RankRequest: EXAMPLE_SAMPLE,
    CreateSoupRequest: {"coefficients": {"one-ingredient": 0.75, "another": 0.25}},
}


Answers = type | Mapping[str, Any]
"""A contract, or a schema that holds contracts."""


@dataclass(frozen=True)
class ErrorBody:
    """The body of every answer that is not a success."""

    error: ErrorInfo


def operation(
    *,
    asks: type | None = None,
    answers: Answers | None = None,
    errors: tuple[type[TureenError], ...] = (),
    example: object = None,
    error_body: type = ErrorBody,
    status: Callable[[TureenError], int] = lambda error: error.http_status,
    query: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """`openapi_extra` of a route: its body, its answer and the errors it may give.

    Args:
        answers: a contract, or a schema with contracts in the places of references.
        query: parameters of the query, and their values; without values any text.
    """
    parameters = [_in_query(*one) for one in (query or {}).items()]
    extra: dict[str, Any] = {"responses": _error_answers(errors, error_body, status)}
    if asks is not None:
        shown = example if example is not None else EXAMPLES[asks]
        content = {"schema": _reference(asks, "validation"), "example": shown}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
        parameters = [*HEADERS, *parameters]
    if answers is not None:
        content = {"schema": _resolved(answers)}
        extra["responses"]["200"] = {"content": {"application/json": content}}
    if parameters:
        extra["parameters"] = parameters
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


_KINDS: dict[type, JsonSchemaMode] = {}  # all that `operation` has referred to


def _schemas() -> dict[str, Any]:
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind.__name__, mode, TypeAdapter(kind)) for kind, mode in _KINDS.items()
    ]
    _, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return definitions["$defs"]


def _error_answers(
    errors: tuple[type[TureenError], ...], body: type, status: Callable[[TureenError], int]
) -> dict[str, Any]:
    codes: dict[str, list[str]] = defaultdict(list)
    for kind in errors:
        names = codes[str(status(kind("")))]
        if kind.code not in names:
            names.append(kind.code)
    return {
        code: {
            "description": ", ".join(names),
            "content": {"application/json": {"schema": _reference(body)}},
        }
        for code, names in sorted(codes.items())
    }


def either(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Answers by status of a route on which two systems meet."""
    made = first | second
    for status in first.keys() & second.keys():
        schemas = [one[status]["content"]["application/json"]["schema"] for one in (second, first)]
        content = {"application/json": {"schema": {"anyOf": schemas}}}
        made[status] = second[status] | {"content": content}
    return made


def _in_query(name: str, values: Sequence[str]) -> dict[str, Any]:
    schema = {"type": "string"} | ({"enum": list(values)} if values else {})
    return {"name": name, "in": "query", "schema": schema}


def _resolved(answers: Answers) -> Any:
    """The schema, references in the places of contracts."""
    if isinstance(answers, type):
        return _reference(answers)
    if isinstance(answers, Mapping):
        return {name: _resolved(one) for name, one in answers.items()}
    return [_resolved(one) for one in answers] if isinstance(answers, list) else answers


def _reference(kind: type, mode: JsonSchemaMode = "serialization") -> dict[str, str]:
    _KINDS.setdefault(kind, mode)
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
