"""Contracts as JSON, both ways, from the type hints of the dataclasses alone.

Reading is strict about what the contract knows (types, required fields, finite numbers) and
indifferent to fields it does not know, so that an older client understands a newer server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tureen.errors import InvalidRequest

T = TypeVar("T")
Reader = Callable[[Any], Any]


class Mismatch(ValueError):
    """A JSON document that does not fit the contract; `path` leads to the place."""

    def __init__(self, wanted: str, got: object, path: str = "") -> None:
        super().__init__(wanted, got, path)
        self.wanted, self.got, self.path = wanted, got, path

    def __str__(self) -> str:
        got = "nothing" if self.got is MISSING else json.dumps(self.got, default=repr)[:80]
        return f"{self.path.lstrip('.') or 'the document'}: {self.wanted} is needed, got {got}"

    def below(self, step: str) -> Mismatch:
        return Mismatch(self.wanted, self.got, step + self.path)


def write(contract: object) -> bytes:
    """A contract as JSON.

    Raises:
        InvalidRequest: it holds a number that is not finite or text that is no Unicode
            (a lone surrogate).
    """
    try:
        text = json.dumps(
            contract, default=_as_dict, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode()
    except (ValueError, TypeError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidRequest(f"The request cannot be sent: {error}. Correct the value.") from error


def read(kind: type[T], document: bytes) -> T:
    """A contract from JSON; a document that does not fit is a ValueError (`Mismatch`)."""
    return _reader(kind)(json.loads(document, parse_constant=_refuse_constant))


def _as_dict(contract: Any) -> dict[str, Any]:
    if not is_dataclass(contract):
        raise TypeError(f"{type(contract).__name__} is no part of the contract")
    return {field.name: getattr(contract, field.name) for field in fields(contract)}


def _refuse_constant(name: str) -> None:
    raise Mismatch("a finite number", name)


@cache
def _reader(hint: Any) -> Reader:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _any_of(tuple(arg for arg in args if arg is not NoneType), NoneType in args)
    if origin is tuple:
        return _tuple_of(args)
    if origin is dict:
        return _dict_of(args[1])
    if is_dataclass(hint):
        return _dataclass(hint)
    if issubclass(hint, StrEnum):
        return _member_of(hint)
    return _SCALARS[hint]


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Mismatch("a string", value)
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise Mismatch("an integer", value)
    return value


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise Mismatch("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):  # 1e999 is valid JSON
        raise Mismatch("a finite number", value)
    return number


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise Mismatch("true or false", value)
    return value


_SCALARS: dict[type, Reader] = {str: _text, int: _integer, float: _number, bool: _truth}


def _member_of(kind: type[StrEnum]) -> Reader:
    def read_member(value: Any) -> StrEnum:
        try:
            return kind(value)
        except ValueError:
            raise Mismatch(f"one of {', '.join(kind)}", value) from None

    return read_member


def _any_of(kinds: tuple[Any, ...], nullable: bool) -> Reader:
    readers = tuple(map(_reader, kinds))

    def read_any(value: Any) -> Any:
        if value is None and nullable:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value)
            except Mismatch:
                continue
        return readers[-1](value)

    return read_any


def _tuple_of(args: tuple[Any, ...]) -> Reader:
    """`tuple[X, ...]` is a list of any length; `tuple[int, int]` one of exactly two."""
    item, length = _reader(args[0]), None if args[-1] is Ellipsis else len(args)

    def read_tuple(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or length not in (None, len(value)):
            raise Mismatch("a list" if length is None else f"a list of {length}", value)
        items = []
        for index, one in enumerate(value):
            try:
                items.append(item(one))
            except Mismatch as mismatch:
                raise mismatch.below(f"[{index}]") from None
        return tuple(items)

    return read_tuple


def _dict_of(kind: Any) -> Reader:
    item = _reader(kind)

    def read_dict(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        items = {}
        for key, one in value.items():
            try:
                items[key] = item(one)
            except Mismatch as mismatch:
                raise mismatch.below(f"[{key!r}]") from None
        return items

    return read_dict


def _dataclass(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    plan = [
        (field.name, _reader(hints[field.name]), field.default is field.default_factory is MISSING)
        for field in fields(kind)
    ]

    def read_dataclass(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        known = {}
        for name, reader, required in plan:
            if name in value:
                try:
                    known[name] = reader(value[name])
                except Mismatch as mismatch:
                    raise mismatch.below(f".{name}") from None
            elif required:
                raise Mismatch("a value", MISSING, f".{name}")
        return kind(**known)

    return read_dataclass
