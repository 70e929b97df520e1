"""Dataclasses from JSON, strictly.

An unknown key, a missing one or a wrong type is an error with its path.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from tureen.errors import nearest


class SchemaError(ValueError):
    """JSON that does not fit; the message starts with the path of the offending value."""


def decode(kind: Any, data: object, path: str = "") -> Any:
    """`data` (as `json.loads` gives it) as an instance of the type `kind`.

    Knows what the contracts use: dataclasses, str, int, float, bool, enums of strings, Literal,
    `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]` and Any. Numbers are finite; true is
    not 1; 1 is a float.

    Raises:
        SchemaError: naming the path, what stands there and what belongs there.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None and types.NoneType in args:
            return None
        (inner,) = (arg for arg in args if arg is not types.NoneType)
        return decode(inner, data, path)
    if origin is Literal:
        return _one_of(data, args, path)
    if origin is tuple:
        return _tuple(args, data, path)
    if origin is dict:
        mapping = _expect(data, Mapping, "an object", path)
        return {key: decode(args[1], value, f"{path}.{key}") for key, value in mapping.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, path)
    if issubclass(kind, Enum):
        return kind(_one_of(data, tuple(member.value for member in kind), path))
    if kind is float:
        number = _expect(data, (int, float), "a number", path)
        if not math.isfinite(number):
            raise SchemaError(f"{path} is {number}; it must be finite.")
        return float(number)
    return _expect(data, kind, {str: "a string", int: "an integer", bool: "a boolean"}[kind], path)


def _expect(data: object, kind: Any, name: str, path: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise SchemaError(f"{path or 'it'} is {data!r}; it must be {name}.")
    return data


def _one_of(data: object, allowed: tuple[Any, ...], path: str) -> Any:
    if data not in allowed:
        raise SchemaError(f"{path} is {data!r}{nearest(str(data), map(str, allowed))}")
    return data


def _tuple(args: tuple[Any, ...], data: object, path: str) -> tuple[Any, ...]:
    items = _expect(data, list, "a list", path)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(decode(args[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if len(items) != len(args):
        raise SchemaError(f"{path} has {len(items)} elements; it must have {len(args)}.")
    pairs = enumerate(zip(args, items, strict=True))
    return tuple(decode(kind, item, f"{path}[{i}]") for i, (kind, item) in pairs)


def _dataclass(kind: Any, data: object, path: str) -> Any:
    mapping = _expect(data, Mapping, "an object", path)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in mapping:
        if key not in fields:
            raise SchemaError(f"{prefix}{key} is unknown{nearest(str(key), fields)}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in mapping:
            raise SchemaError(f"{prefix}{name} is missing; it is required.")
    values = {key: decode(hints[key], value, f"{prefix}{key}") for key, value in mapping.items()}
    try:
        return kind(**values)
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(f"{path}: {error}" if path else str(error)) from error
