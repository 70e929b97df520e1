"""Any contract, drawn from its type hints. A list that may be None is never empty, as the wire has it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

INT32 = 2**31 - 1
SCALARS = {
    str: st.text(max_size=8),  # no surrogates: hypothesis leaves them out of encodable text
    int: st.integers(0, INT32),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
}


def any_of(hint: Any, min_size: int = 0) -> st.SearchStrategy[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [any_of(arg, 1) for arg in args if arg is not NoneType]
        return st.one_of(*([st.none()] if NoneType in args else []), *kinds)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(any_of(args[0], 1), min_size=min_size, max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(any_of, args))
    if origin is dict:
        return st.dictionaries(SCALARS[str], any_of(args[1]), min_size=min_size, max_size=3)
    if is_dataclass(hint):
        return contract(hint)
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    return SCALARS[hint]


def contract(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: any_of(hints[field.name]) for field in fields(kind)})
