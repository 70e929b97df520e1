from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tureen.contracts import Granularity, Sample
from tureen.model.schema import SchemaError, decode


@dataclass(frozen=True, kw_only=True)
class Spoon:
    length: float


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    spoons: tuple[Spoon, ...] = ()
    colour: Literal["red", "blue"] = "red"
    granularity: Granularity = Granularity.RESPONSE
    seats: int | None = None
    notes: dict[str, str] = field(default_factory=dict)
    anything: Any = None


def test_nested_json_becomes_dataclasses():
    data = {
        "name": "long",
        "spoons": [{"length": 1}, {"length": 2.5}],
        "colour": "blue",
        "granularity": "sentence",
        "seats": 3,
        "notes": {"by": "me"},
        "anything": [1, None],
    }
    assert decode(Table, data) == Table(
        name="long",
        spoons=(Spoon(length=1.0), Spoon(length=2.5)),
        colour="blue",
        granularity=Granularity.SENTENCE,
        seats=3,
        notes={"by": "me"},
        anything=[1, None],
    )


def test_a_sample_survives_json():
    sample = Sample(prompt="p", responses=("a", "b"), offsets=(((0, 1),), None))
    data = json.loads(
        json.dumps({"prompt": "p", "responses": ["a", "b"], "offsets": [[[0, 1]], None]})
    )
    assert decode(Sample, data) == sample


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "x"}, r"^nam is unknown; did you mean 'name'\?"),
        ({}, "^name is missing"),
        ({"name": 3}, "^name is 3; it must be a string"),
        ({"name": "x", "spoons": [{"length": True}]}, r"^spoons\[0\]\.length is True; .* a number"),
        (
            {"name": "x", "spoons": [{"length": float("nan")}]},
            r"spoons\[0\]\.length is nan; .*finite",
        ),
        ({"name": "x", "spoons": [{"lenght": 1}]}, r"^spoons\[0\]\.lenght is unknown; .*'length'"),
        ({"name": "x", "spoons": {}}, "^spoons is {}; it must be a list"),
        ({"name": "x", "colour": "bleu"}, "^colour is 'bleu'; did you mean 'blue'"),
        ({"name": "x", "granularity": "word"}, "^granularity is 'word'"),
        ({"name": "x", "seats": 2.0}, "^seats is 2.0; it must be an integer"),
        ({"name": "x", "seats": True}, "^seats is True; it must be an integer"),
        ({"name": "x", "notes": {"by": 1}}, r"^notes\.by is 1; it must be a string"),
        ([], r"^it is \[\]; it must be an object"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(data: object, message: str):
    with pytest.raises(SchemaError, match=message):
        decode(Table, data)


def test_a_fixed_tuple_has_its_length():
    with pytest.raises(SchemaError, match=r"offsets\[0\]\[0\] has 3 elements; it must have 2"):
        decode(Sample, {"prompt": "p", "responses": ["a"], "offsets": [[[0, 1, 2]]]})
