"""What in one OpenAPI document would break a client of another, older one.

A client keeps sending what the older document let it send, and keeps reading what that document
promised. So what may be sent must not become less, and what may come back must not become more:

    sent:      a route, a parameter, a field, a type, a value of an enumeration or an alternative
               that is gone; a field that has become required; a narrower bound; another default
    received:  a status or a field that is gone; a field that may now be absent; a type, a value
               of an enumeration or an alternative that the client has never heard of

Descriptions, titles and examples break nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]
Direction = Literal["sent", "received"]
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaking_changes(older: Json, newer: Json) -> list[str]:
    """Each change that breaks a client, with the place where it does; empty where none does."""
    return list(_Comparison(older, newer).routes())


@dataclass(frozen=True)
class _Comparison:
    older: Json
    newer: Json

    def routes(self) -> Iterator[str]:
        for path, operations in self.older["paths"].items():
            for method in operations.keys() & set(_METHODS):
                where = f"{method.upper()} {path}"
                found = self.newer["paths"].get(path, {}).get(method)
                if found is None:
                    yield f"{where}: the route is gone"
                else:
                    yield from self._operation(where, operations[method], found)

    def _operation(self, where: str, older: Json, newer: Json) -> Iterator[str]:
        yield from self._parameters(where, older, newer)
        yield from self._request(where, older.get("requestBody"), newer.get("requestBody"))
        answers = newer.get("responses", {})
        for status, answer in older.get("responses", {}).items():
            if status not in answers:
                if status.startswith("2"):
                    yield f"{where}: status {status} is gone"
                continue
            at = f"{where} {status}"
            yield from self._content(at, answer, answers[status], "received")

    def _parameters(self, where: str, older: Json, newer: Json) -> Iterator[str]:
        before, after = _by_place(older), _by_place(newer)
        for place, parameter in before.items():
            at = f"{where} {' '.join(place)}"
            if place not in after:
                yield f"{at}: the parameter is gone"
                continue
            if after[place].get("required") and not parameter.get("required"):
                yield f"{at}: has become required"
            yield from self._schema(
                at, parameter.get("schema", {}), after[place].get("schema", {}), "sent"
            )
        for place in after.keys() - before.keys():
            if after[place].get("required"):
                yield f"{where} {' '.join(place)}: a new parameter that is required"

    def _request(self, where: str, older: Json | None, newer: Json | None) -> Iterator[str]:
        if newer is None:
            if older is not None:
                yield f"{where}: takes no body any more"
        elif older is None:
            if newer.get("required"):
                yield f"{where}: a body is required now"
        else:
            yield from self._content(f"{where} body", older, newer, "sent")

    def _content(self, where: str, older: Json, newer: Json, direction: Direction) -> Iterator[str]:
        after = newer.get("content", {})
        for kind, content in older.get("content", {}).items():
            if kind not in after:
                yield f"{where}: {kind} is gone"
            else:
                yield from self._schema(
                    where, content.get("schema", {}), after[kind].get("schema", {}), direction
                )

    def _schema(
        self,
        where: str,
        older: Json,
        newer: Json,
        direction: Direction,
        seen: frozenset[tuple[str, str]] = frozenset(),
    ) -> Iterator[str]:
        if direction == "sent" and older.get("default") != newer.get("default"):  # None: or none
            was_default, default = older.get("default"), newer.get("default")
            yield f"{where}: the default was {was_default!r}, it is {default!r}"
        before, after = _alternatives(older, self.older), _alternatives(newer, self.newer)
        asked, offered = (before, after) if direction == "sent" else (after, before)
        for one in asked:
            tried = []
            for other in offered:
                if _takes(other, one):
                    was, now = (one, other) if direction == "sent" else (other, one)
                    tried.append(list(self._same_kind(where, was, now, direction, seen)))
            if not tried:
                yield f"{where}: was {_kinds(before)}, is {_kinds(after)}"
            elif all(tried):
                yield from min(tried, key=len)  # of the alternative that is nearest

    def _same_kind(
        self,
        where: str,
        was: _Alternative,
        now: _Alternative,
        direction: Direction,
        seen: frozenset[tuple[str, str]],
    ) -> Iterator[str]:
        names = (was.name, now.name)
        if all(names):
            if names in seen:
                return  # a schema within itself
            seen |= {names}
        older, newer = was.schema, now.schema
        yield from _values(where, older, newer, direction)
        yield from _bounds(where, older, newer, direction)
        yield from self._fields(where, older, newer, direction, seen)
        for part, mark in (("items", "[]"), ("additionalProperties", "{}")):
            both = older.get(part), newer.get(part)
            if isinstance(both[0], Mapping) and isinstance(both[1], Mapping):
                yield from self._schema(where + mark, both[0], both[1], direction, seen)
        for index, (one, other) in enumerate(
            zip(older.get("prefixItems", ()), newer.get("prefixItems", ()), strict=False)
        ):
            yield from self._schema(f"{where}[{index}]", one, other, direction, seen)

    def _fields(
        self,
        where: str,
        older: Json,
        newer: Json,
        direction: Direction,
        seen: frozenset[tuple[str, str]],
    ) -> Iterator[str]:
        before, after = older.get("properties", {}), newer.get("properties", {})
        required = set(older.get("required", ())), set(newer.get("required", ()))
        for name, schema in before.items():
            at = f"{where}.{name}"
            if name not in after:
                if direction == "received" or newer.get("additionalProperties") is False:
                    yield f"{at}: the field is gone"
                continue
            yield from self._schema(at, schema, after[name], direction, seen)
        if direction == "sent":
            for name in required[1] - required[0]:
                yield f"{where}.{name}: has become required"
        else:
            for name in (required[0] - required[1]) & after.keys():
                yield f"{where}.{name}: may be absent now"


def _by_place(operation: Json) -> dict[tuple[str, str], Json]:
    return {(one["in"], one["name"]): one for one in operation.get("parameters", ())}


@dataclass(frozen=True)
class _Alternative:
    """One of what a schema lets be, without references. name: it has in the document, or ""."""

    name: str
    schema: Json

    @property
    def kind(self) -> str:
        """Its type; "anything" where it has none."""
        if "type" in self.schema:
            return self.schema["type"]
        values = [*self.schema.get("enum", ()), self.schema.get("const")]
        return "string" if any(isinstance(one, str) for one in values) else "anything"


def _kinds(alternatives: list[_Alternative]) -> str:
    return " or ".join(sorted({one.kind for one in alternatives}))


def _takes(wide: _Alternative, narrow: _Alternative) -> bool:
    return wide.kind in (narrow.kind, "anything") or (wide.kind, narrow.kind) == (
        "number",
        "integer",
    )


def _alternatives(schema: Json, document: Json, name: str = "") -> list[_Alternative]:
    while "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [part for one in schema[word] for part in _alternatives(one, document)]
    if isinstance(schema.get("type"), list):
        return [_Alternative(name, {**schema, "type": kind}) for kind in schema["type"]]
    return [_Alternative(name, schema)]


def _values(where: str, older: Json, newer: Json, direction: Direction) -> Iterator[str]:
    before, after = _enumerated(older), _enumerated(newer)
    less, more = (before, after) if direction == "sent" else (after, before)
    if more is None:
        return
    if less is None:
        yield (
            f"{where}: may be {_shown(more)} only"
            if direction == "sent"
            else (f"{where}: was {_shown(more)}, may be anything now")
        )
    elif not less <= more:
        gone = "can be sent no more" if direction == "sent" else "is new and comes back"
        yield f"{where}: {_shown(less - more)} {gone}"


def _enumerated(schema: Json) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return set(map(repr, schema["enum"])) if "enum" in schema else None


def _shown(values: set[str]) -> str:
    return ", ".join(sorted(values))


def _bounds(where: str, older: Json, newer: Json, direction: Direction) -> Iterator[str]:
    if direction == "received":
        return
    for words, narrower in ((_LOWER, max), (_UPPER, min)):
        for word in words:
            before, after = older.get(word), newer.get(word)
            if after is None or after == before:
                continue
            if before is None or narrower(before, after) == after:
                yield f"{where}: {word} was {before}, is {after}"
