"""Contracts as JSON; JSON to contracts, and pydantic's complaints to ours: which field, what came, what may."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, SchemaValidator

from tureen.errors import NAMED, InvalidRequest, nearest, quoted

T = TypeVar("T")
SHOWN = 60  # characters of a wrong value that are repeated in the message


_UNMARKED = b',"redistribution":null'


def dumps(content: object) -> bytes:
    """Contracts, and what holds them, as JSON; a mark of redistribution only where there is one."""
    # Text cannot hold the phrase: its quotes would have backslashes.
    return orjson.dumps(content).replace(_UNMARKED, b"")


def fields_of(body: bytes) -> frozenset[str]:
    """Names in a body that may be of several systems; none where it is no JSON object."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return frozenset()
    return frozenset(fields) if isinstance(fields, dict) else frozenset()


class JsonBody(Generic[T]):
    """Reads bodies of one contract.

    Raises InvalidRequest for whatever is not exactly the contract: the first wrong field is named
    by its path (`samples[0].responses[3]`).
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self._validator = SchemaValidator(_failing_fast(TypeAdapter(kind).core_schema))

    def parse(self, body: bytes) -> T:
        if not body.strip():
            raise InvalidRequest(
                f"the body is empty; send a JSON object with the fields {_names(self.kind)}"
            )
        try:
            return self._validator.validate_json(body)
        except ValidationError as error:
            details = error.errors(include_url=False)
        raise self._complaint(details, body)

    def _complaint(self, details: list[ErrorDetails], body: bytes) -> InvalidRequest:
        # An unknown name often is the misspelt required one: it explains more than the missing one.
        unknown = [d for d in details if d["type"] == "unexpected_keyword_argument"]
        first = (unknown or details)[0]
        path = _path(first["loc"])
        match first["type"]:
            case "json_invalid":
                return _not_json(str(first.get("ctx", {}).get("error", "")), body)
            case "unexpected_keyword_argument":
                name, parent = str(first["loc"][-1]), first["loc"][:-1]
                known = _fields(_type_at(self.kind, parent))
                where = f" of {_path(parent)}" if parent else ""
                return InvalidRequest(
                    f"{quoted(name)} is not a field{where}{nearest(name, known)}", field=path
                )
            case "missing":
                return InvalidRequest(f"{path} is missing; it is required: send it", field=path)
        given = _shown(first["input"])
        where = path or "the body"
        message = f"{where} is {given}; it must be {_allowed(first)}"
        got = first["input"] if isinstance(first["input"], (str, int, float)) else None
        return InvalidRequest(message, field=path or None, got=got)


def _failing_fast(schema: Any) -> Any:
    """The schema, whose arrays are given up at their first wrong item: a body holds millions."""
    if isinstance(schema, list):
        return [_failing_fast(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _failing_fast(part) for name, part in schema.items()}
    return made | {"fail_fast": True} if schema.get("type") == "tuple" else made


def _allowed(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "enum":
        return "one of " + str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
    if kind.startswith(("dataclass", "dict")):
        return "an object"
    if kind.startswith("tuple"):
        return "an array"
    if kind in {"too_long", "too_short"}:  # the only tuple of fixed length: a span
        return "a pair [start, end]"
    if kind == "finite_number":
        return "a finite number"
    if kind.startswith("float"):
        return "a number"
    if kind.startswith("int"):
        return "an integer"
    return {"string_type": "a string", "bool_type": "true or false"}.get(kind, detail["msg"])


def _shown(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value if len(value) <= SHOWN else value[:SHOWN] + "…", ensure_ascii=False)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return str(value)[:SHOWN]
    return "an object" if isinstance(value, Mapping) else "an array"


def _not_json(reason: str, body: bytes) -> InvalidRequest:
    try:
        path = _lone_surrogate(json.loads(body))
    except (ValueError, RecursionError):
        path = None
    if path is not None:
        return InvalidRequest(
            f"{path or 'the body'} holds half of a surrogate pair (\\ud800 to \\udfff), "
            "which is no character; send both halves or U+FFFD",
            field=path or None,
        )
    return InvalidRequest(f"the body is not JSON: {reason}; send UTF-8 JSON")


def _lone_surrogate(value: object, path: str = "") -> str | None:
    """Where half a surrogate pair stands; JSON can spell it, Unicode text cannot hold it."""
    if isinstance(value, str):
        return path if re.search(r"[\ud800-\udfff]", value) else None
    if isinstance(value, dict):
        children = [(f"{path}.{key[:NAMED]}".lstrip("."), child) for key, child in value.items()]
        if any(re.search(r"[\ud800-\udfff]", key) for key in value):
            return path
    elif isinstance(value, list):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    else:
        return None
    found = (_lone_surrogate(child, name) for name, child in children)
    return next((name for name in found if name is not None), None)


def _path(loc: Sequence[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:NAMED]}" for part in loc)
    return "".join(parts).lstrip(".")


def _fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _names(kind: Any) -> str:
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    optional = [name for name in _fields(kind) if name not in required]
    return f"{', '.join(required)} (required), {', '.join(optional)}"


def _type_at(kind: Any, loc: Sequence[int | str]) -> Any:
    """The dataclass that stands at `loc` inside `kind`: indices are stepped over."""
    for name in loc:
        if isinstance(name, str):
            kind = _dataclass_in(get_type_hints(kind)[name])
    return kind


def _dataclass_in(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for arg in get_args(hint) if (found := _dataclass_in(arg))), None)
