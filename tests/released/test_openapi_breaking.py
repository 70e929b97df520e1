"""The comparison of OpenAPI documents: what it must find, and what it must let pass, made by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from released.openapi_breaking import breaking_changes

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/score": {
            "post": {
                "parameters": [
                    {"in": "query", "name": "raw", "schema": {"type": "string", "enum": ["0", "1"]}}
                ],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}
                    }
                },
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}
                        }
                    },
                    "422": {"description": "invalid_request"},
                },
            }
        },
        "/health": {"get": {"responses": {"200": {"description": "well"}}}},
    },
    "components": {
        "schemas": {
            "Ask": {
                "type": "object",
                "additionalProperties": False,
                "required": ["texts"],
                "properties": {
                    "texts": {"type": "array", "items": {"type": "string"}, "maxItems": 9},
                    "penalty": {"type": "number", "default": 0.5, "minimum": 0},
                    "order": {"type": "string", "enum": ["best", "worst"], "default": "best"},
                    "model": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                    "parent": {"anyOf": [{"$ref": "#/components/schemas/Ask"}, {"type": "null"}]},
                },
            },
            "Answer": {
                "type": "object",
                "required": ["rewards", "state"],
                "properties": {
                    "rewards": {"type": "array", "items": {"type": "number"}},
                    "state": {"type": "string", "enum": ["ready", "busy"]},
                    "heads": {"type": "object", "additionalProperties": {"type": "number"}},
                },
            },
        }
    },
}


def changed(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> list[str]:
    """What is said of the document after `change(paths, schemas)`."""
    newer = copy.deepcopy(DOCUMENT)
    change(newer["paths"], newer["components"]["schemas"])
    return breaking_changes(DOCUMENT, newer)


def ask(schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas["Ask"]["properties"]


def answer(schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas["Answer"]["properties"]


BREAKING: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "a route is gone": (lambda p, s: p.pop("/health"), "GET /health: the route is gone"),
    "a method is gone": (
        lambda p, s: p["/score"].update(put=p["/score"].pop("post")),
        "POST /score: the route is gone",
    ),
    "a parameter is gone": (
        lambda p, s: p["/score"]["post"].update(parameters=[]),
        "POST /score query raw: the parameter is gone",
    ),
    "a parameter takes less": (
        lambda p, s: p["/score"]["post"]["parameters"][0]["schema"].update(enum=["0"]),
        "POST /score query raw: '1' can be sent no more",
    ),
    "a new parameter is required": (
        lambda p, s: p["/score"]["post"]["parameters"].append(
            {"in": "header", "name": "key", "required": True}
        ),
        "POST /score header key: a new parameter that is required",
    ),
    "a field of the body is gone": (
        lambda p, s: ask(s).pop("penalty"),
        "POST /score body.penalty: the field is gone",
    ),
    "a field has become required": (
        lambda p, s: s["Ask"]["required"].append("order"),
        "POST /score body.order: has become required",
    ),
    "a new field is required": (
        lambda p, s: (s["Ask"]["required"].append("who"), ask(s).update(who={"type": "string"})),
        "POST /score body.who: has become required",
    ),
    "a field has another type": (
        lambda p, s: ask(s)["penalty"].update(type="string"),
        "POST /score body.penalty: was number, is string",
    ),
    "a field takes null no more": (
        lambda p, s: ask(s).update(model={"type": "string", "default": None}),
        "POST /score body.model: was null or string, is string",
    ),
    "a value can be sent no more": (
        lambda p, s: ask(s)["order"].update(enum=["best"]),
        "POST /score body.order: 'worst' can be sent no more",
    ),
    "text has become a choice": (
        lambda p, s: ask(s)["texts"]["items"].update(enum=["a"]),
        "POST /score body.texts[]: may be 'a' only",
    ),
    "a default is another": (
        lambda p, s: ask(s)["penalty"].update(default=0.0),
        "POST /score body.penalty: the default was 0.5, it is 0.0",
    ),
    "an upper bound is narrower": (
        lambda p, s: ask(s)["texts"].update(maxItems=8),
        "POST /score body.texts: maxItems was 9, is 8",
    ),
    "a lower bound is new": (
        lambda p, s: ask(s)["texts"].update(minItems=1),
        "POST /score body.texts: minItems was None, is 1",
    ),
    "a status is gone": (
        lambda p, s: p["/score"]["post"]["responses"].update(
            {"201": p["/score"]["post"]["responses"].pop("200")}
        ),
        "POST /score: status 200 is gone",
    ),
    "a field of the answer is gone": (
        lambda p, s: answer(s).pop("heads"),
        "POST /score 200.heads: the field is gone",
    ),
    "a field of the answer may be absent": (
        lambda p, s: s["Answer"]["required"].remove("rewards"),
        "POST /score 200.rewards: may be absent now",
    ),
    "a field of the answer may be null": (
        lambda p, s: answer(s)["rewards"]["items"].update(type=["number", "null"]),
        "POST /score 200.rewards[]: was number, is null or number",
    ),
    "a value of a mapping has another type": (
        lambda p, s: answer(s)["heads"]["additionalProperties"].update(type="object"),
        "POST /score 200.heads{}: was number, is object",
    ),
    "a value comes back that is new": (
        lambda p, s: answer(s)["state"]["enum"].append("gone"),
        "POST /score 200.state: 'gone' is new and comes back",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_breaking(name: str):
    change, said = BREAKING[name]
    assert changed(change) == [said]


HARMLESS: dict[str, Callable[[Any, Any], object]] = {
    "nothing": lambda p, s: None,
    "a new route": lambda p, s: p.update({"/new": p["/health"]}),
    "a new parameter": lambda p, s: p["/score"]["post"]["parameters"].append(
        {"in": "query", "name": "heads", "schema": {"type": "string"}}
    ),
    "a new field": lambda p, s: ask(s).update(seed={"type": "integer", "default": 1}),
    "a field that is required no more": lambda p, s: s["Ask"]["required"].clear(),
    "more values": lambda p, s: ask(s)["order"]["enum"].append("none"),
    "more types": lambda p, s: ask(s)["penalty"].update(type=["number", "null"]),
    "wider bounds": lambda p, s: (
        ask(s)["texts"].update(maxItems=10),
        ask(s)["penalty"].pop("minimum"),
    ),
    "a new error": lambda p, s: p["/score"]["post"]["responses"].update({"503": {}}),
    "an error that comes no more": lambda p, s: p["/score"]["post"]["responses"].pop("422"),
    "more in the answer": lambda p, s: answer(s).update(note={"type": "string"}),
    "an answer that promises more": lambda p, s: s["Answer"]["required"].append("heads"),
    "fewer values in the answer": lambda p, s: answer(s)["state"].update(enum=["ready"]),
    "words": lambda p, s: ask(s)["penalty"].update(description="λ", title="Penalty", example=1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str):
    assert changed(HARMLESS[name]) == []
