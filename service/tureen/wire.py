"""Contracts as protobuf, both ways: the names agree, so the type hints are the whole mapping.

Conventions of the proto: an empty repeated field or map is None, an absent optional field is the
default of the contract, an unspecified enumeration too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from tureen import contracts
from tureen.errors import InvalidRequest
from tureen.v1 import reward_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Convert = Callable[[Any], Any]

MESSAGES: dict[type, type[Message]] = {
    contracts.Message: reward_pb2.Message,
    contracts.Sample: reward_pb2.Sample,
    contracts.ScoreRequest: reward_pb2.ScoreRequest,
    contracts.RankRequest: reward_pb2.RankRequest,
    contracts.HeadScore: reward_pb2.HeadScore,
    contracts.Segment: reward_pb2.Segment,
    contracts.Uncertainty: reward_pb2.Uncertainty,
    contracts.Score: reward_pb2.Score,
    contracts.ErrorInfo: reward_pb2.Error,
    contracts.SampleResult: reward_pb2.SampleResult,
    contracts.Timings: reward_pb2.Timings,
    contracts.ScoreResponse: reward_pb2.ScoreResponse,
    contracts.RankResponse: reward_pb2.RankResponse,
    contracts.Calibration: reward_pb2.Calibration,
    contracts.HeadInfo: reward_pb2.HeadInfo,
    contracts.IngredientInfo: reward_pb2.IngredientInfo,
    contracts.Limits: reward_pb2.Limits,
    contracts.ModelInfo: reward_pb2.ModelInfo,
    contracts.ModelList: reward_pb2.ModelList,
    contracts.CreateSoupRequest: reward_pb2.CreateSoupRequest,
    contracts.ShadowReport: reward_pb2.ShadowReport,
    contracts.SoupInfo: reward_pb2.SoupInfo,
    contracts.SoupEvent: reward_pb2.SoupEvent,
    contracts.SoupList: reward_pb2.SoupList,
}
"""Every contract and its message."""


def to_proto(contract: object) -> Any:
    """The message of a contract.

    Raises:
        InvalidRequest: a value does not fit its field: wrong type, out of range, no Unicode, or an
            empty list where protobuf could not tell it from None.
    """
    try:
        return _plan(type(contract)).write(contract)
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"The request cannot be sent: {error}. Correct the value.") from error


def from_proto(kind: type[T], message: Message) -> T:
    """The contract of a message.

    Raises:
        InvalidRequest: an unknown member of an enumeration, or a message without a part it
            must have.
    """
    return _plan(kind).read(message)


def parse(kind: type[M], data: bytes) -> M:
    """A message from bytes that may be anything.

    Raises:
        InvalidRequest: not this message, or fields in it, however deep, that this version
            does not know.
    """
    try:
        message = kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(f"The body is no {kind.DESCRIPTOR.full_name}: {error}.") from error
    size = message.ByteSize()
    message.DiscardUnknownFields()  # at any depth, in C: cheaper than to look for them
    if message.ByteSize() != size:
        path, number, known = next(_unknown(kind.FromString(data), ""))
        raise InvalidRequest(
            f"Field number {number} of {path or 'the request'} is unknown; known are "
            f"{', '.join(f'{field.name} ({field.number})' for field in known.fields)}. "
            "Remove it, or ask a newer server.",
            field=path or None,
            got=number,
        )
    return message


def _unknown(message: Message, path: str) -> Iterator[tuple[str, int, Any]]:
    """Where each unknown field stands, its number, and the message it stands in."""
    for unknown in UnknownFieldSet(message):
        yield path, unknown.field_number, message.DESCRIPTOR
    for field, value in message.ListFields():
        below = f"{path}.{field.name}" if path else field.name
        if isinstance(value, Message):
            yield from _unknown(value, below)
        elif field.message_type is not None:  # repeated, or a map
            for key, one in value.items() if hasattr(value, "items") else enumerate(value):
                if isinstance(one, Message):
                    yield from _unknown(one, f"{below}[{key!r}]")


class _Codec(NamedTuple):
    """One field, or one item of it, that is present."""

    write: Convert
    read: Convert


def _same(value: Any) -> Any:
    return value


_SAME = _Codec(_same, _same)


class _Row(NamedTuple):
    name: str
    codec: _Codec
    nullable: bool  # the contract has None for a field that is not given
    required: bool
    presence: bool  # protobuf knows whether the field is given
    container: bool  # repeated or map
    enumeration: bool


class _Plan:
    """How one contract becomes its message and back."""

    def __init__(self, kind: Any) -> None:
        self.kind, self.message = kind, MESSAGES[kind]
        hints = get_type_hints(kind)
        described = self.message.DESCRIPTOR.fields_by_name
        self.rows = [
            _row(field, hints[field.name], described[field.name]) for field in fields(kind)
        ]

    def write(self, contract: Any) -> Any:
        known = {}
        for row in self.rows:
            value = getattr(contract, row.name)
            if value is None:
                continue
            if row.container and row.nullable and not value:
                raise InvalidRequest(f"{row.name} is empty; leave it out.", field=row.name)
            known[row.name] = row.codec.write(value)
        return self.message(**known)

    def read(self, message: Any) -> Any:
        known = {}
        for row in self.rows:
            if row.presence:
                if message.HasField(row.name):
                    known[row.name] = row.codec.read(getattr(message, row.name))
                elif row.required:
                    raise InvalidRequest(f"{row.name} is missing; give it.", field=row.name)
                continue
            value = getattr(message, row.name)
            if value or not (row.enumeration or (row.container and row.nullable)):
                known[row.name] = row.codec.read(value)
        return self.kind(**known)


@cache
def _plan(kind: type) -> _Plan:
    return _Plan(kind)


def _row(field: Field[Any], hint: Any, described: Any) -> _Row:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return _Row(
        name=field.name,
        codec=_codec(field.name, hint, described.message_type, described.enum_type),
        nullable=NoneType in options,
        required=field.default is field.default_factory is MISSING,
        presence=described.has_presence,
        container=any(get_origin(option) in (tuple, dict) for option in options),
        enumeration=described.enum_type is not None,
    )


def _codec(
    name: str, hint: Any, message: Descriptor | None, enumeration: EnumDescriptor | None
) -> _Codec:
    """How a value of type `hint` travels in a field of this message or enumeration type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [arg for arg in args if arg is not NoneType]
        return _SCALAR if len(kinds) > 1 else _codec(name, kinds[0], message, enumeration)
    if is_dataclass(hint):
        return _Codec(lambda value: _plan(hint).write(value), lambda one: _plan(hint).read(one))
    if origin is tuple:
        return _SPAN if args[-1] is not Ellipsis else _list_of(name, args[0], message, enumeration)
    if origin is dict:
        assert message is not None
        value = message.fields_by_name["value"]
        item = _codec(name, args[1], value.message_type, value.enum_type)
        return _Codec(
            lambda whole: {key: item.write(one) for key, one in whole.items()},
            lambda whole: {key: item.read(one) for key, one in whole.items()},
        )
    if issubclass(hint, StrEnum):
        return _Codec(_same, hint) if enumeration is None else _member_of(name, hint, enumeration)
    return _SAME


def _list_of(
    name: str, hint: Any, message: Descriptor | None, enumeration: EnumDescriptor | None
) -> _Codec:
    item = _codec(name, hint, message, enumeration)
    if item is _SAME:
        return _Codec(tuple, tuple)
    if message is not None and len(message.fields) == 1:  # protobuf boxes lists of lists
        item = _boxed(name, hint, message)
    return _Codec(
        lambda many: [item.write(one) for one in many], lambda many: tuple(map(item.read, many))
    )


def _boxed(name: str, hint: Any, box: Descriptor) -> _Codec:
    """A list as a message of one repeated field; None as an empty one."""
    kind, content = GetMessageClass(box), box.fields[0]
    item = _codec(name, hint, content.message_type, content.enum_type)

    def write(many: Any) -> Message:
        if many is None:
            return kind()
        if not many:
            raise InvalidRequest(f"{name} holds an empty list; give null instead.", field=name)
        return kind(**{content.name: item.write(many)})

    return _Codec(write, lambda one: item.read(getattr(one, content.name)) or None)


def _member_of(name: str, kind: type[StrEnum], enumeration: EnumDescriptor) -> _Codec:
    """Aggregation.MEAN is AGGREGATION_MEAN; number 0, unspecified, never comes here."""
    prefix = enumeration.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = {member: enumeration.values_by_name[prefix + member.name].number for member in kind}
    members = {number: member for member, number in numbers.items()}

    def read(number: int) -> StrEnum:
        if number not in members:
            raise InvalidRequest(
                f"{name} is number {number}, which {enumeration.name} does not have; known are "
                f"{', '.join(f'{prefix}{m.name} ({n})' for n, m in members.items())}.",
                field=name,
                got=number,
            )
        return members[number]

    return _Codec(lambda member: numbers[member], read)


def _write_scalar(value: float | str) -> Message:
    if isinstance(value, str):
        return reward_pb2.Scalar(text=value)
    if isinstance(value, int):
        return reward_pb2.Scalar(integer=value)
    return reward_pb2.Scalar(number=value)


def _read_scalar(scalar: Any) -> float | str | None:
    kind = scalar.WhichOneof("kind")
    return None if kind is None else getattr(scalar, kind)


_SCALAR = _Codec(_write_scalar, _read_scalar)
_SPAN = _Codec(
    lambda span: reward_pb2.Span(start=span[0], end=span[1]), lambda one: (one.start, one.end)
)
