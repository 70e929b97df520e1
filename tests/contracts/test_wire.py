from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
from contracts.strategies import contract
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen import contracts, wire
from tureen.contracts import (
    Aggregation,
    ErrorInfo,
    Message,
    Sample,
    ScoreRequest,
    Truncate,
)
from tureen.errors import InvalidRequest
from tureen.v1 import reward_pb2

KINDS = sorted(wire.MESSAGES, key=lambda kind: kind.__name__)
SAMPLE = Sample(prompt="p", responses=("r",))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_there_and_back_is_the_identity(kind, data):
    before = data.draw(contract(kind))
    message = wire.to_proto(before)
    again = wire.parse(wire.MESSAGES[kind], message.SerializeToString())
    assert wire.from_proto(kind, again) == before


@pytest.mark.parametrize("kind", KINDS)
def test_names_agree(kind):
    described = wire.MESSAGES[kind].DESCRIPTOR.fields_by_name
    assert {field.name for field in fields(kind)} == set(described)


def test_every_contract_has_a_message():
    kinds = {kind for kind in vars(contracts).values() if is_dataclass(kind)}
    assert kinds - set(wire.MESSAGES) == {contracts.ScoreOptions}  # the base of two requests


def test_what_an_empty_request_means():
    """The defaults of the contract stand in for whatever protobuf leaves out."""
    assert wire.from_proto(ScoreRequest, reward_pb2.ScoreRequest()) == ScoreRequest(samples=())


def test_zero_and_false_are_not_absent():
    request = ScoreRequest(samples=(SAMPLE,), penalty=0.0, segments=False, weights={"a": 0.0})
    message = wire.to_proto(request)
    assert (message.HasField("penalty"), message.HasField("segments")) == (True, True)
    assert wire.from_proto(ScoreRequest, message) == request


def test_enumerations_by_name():
    message = wire.to_proto(
        ScoreRequest(
            samples=(), aggregation=Aggregation.UNCERTAINTY_WEIGHTED, truncate=Truncate.PROMPT
        )
    )
    assert message.aggregation == reward_pb2.AGGREGATION_UNCERTAINTY_WEIGHTED
    assert message.truncate == reward_pb2.TRUNCATE_PROMPT


def test_offsets_are_boxed():
    sample = Sample(prompt="p", responses=("ab", "c"), offsets=(((0, 1), (1, 2)), None))
    message = wire.to_proto(sample)
    assert [(s.start, s.end) for s in message.offsets[0].spans] == [(0, 1), (1, 2)]
    assert len(message.offsets[1].spans) == 0


@pytest.mark.parametrize(
    ("figure", "kind"), [(3, "integer"), (3.0, "number"), ("3", "text"), (0, "integer")]
)
def test_figures_keep_their_kind(figure, kind):
    message = wire.to_proto(ErrorInfo(code="c", message="m", got=figure))
    assert message.got.WhichOneof("kind") == kind
    got = wire.from_proto(ErrorInfo, message).got
    assert (got, type(got)) == (figure, type(figure))


def test_an_unknown_member_is_refused_by_number_and_name():
    message = reward_pb2.ScoreRequest.FromString(b"\x28\x09")  # field 5, aggregation = 9
    with pytest.raises(
        InvalidRequest, match=r"aggregation is number 9.*AGGREGATION_MEAN \(1\)"
    ) as e:
        wire.from_proto(ScoreRequest, message)
    assert (e.value.field, e.value.got) == ("aggregation", 9)


def test_a_missing_part_is_named():
    with pytest.raises(InvalidRequest, match="calibration is missing"):
        wire.from_proto(contracts.HeadInfo, reward_pb2.HeadInfo(name="h", granularity="response"))


class TestParse:
    def test_malformed(self):
        with pytest.raises(InvalidRequest, match=r"no tureen\.v1\.ScoreRequest"):
            wire.parse(reward_pb2.ScoreRequest, b"\xff\xff\xff")

    def test_text_that_is_no_utf8(self):
        with pytest.raises(InvalidRequest, match=r"no tureen\.v1\.Message"):
            wire.parse(reward_pb2.Message, b"\x0a\x01\xff")

    def test_unknown_field_at_the_top(self):
        with pytest.raises(InvalidRequest, match=r"number 99 of the request.*model \(1\)") as e:
            wire.parse(reward_pb2.ScoreRequest, b"\x98\x06\x01")  # field 99, varint 1
        assert (e.value.field, e.value.got) == (None, 99)

    def test_unknown_field_further_down(self):
        good = ScoreRequest(
            samples=(SAMPLE, Sample(messages=(Message(role="u", content="c"),), responses=("r",)))
        )
        message = wire.to_proto(good)
        message.samples[1].messages[0].MergeFromString(b"\x1a\x01x")  # field 3 of Message
        with pytest.raises(InvalidRequest, match=r"role \(1\), content \(2\)") as e:
            wire.parse(reward_pb2.ScoreRequest, message.SerializeToString())
        assert (e.value.field, e.value.got) == ("samples[1].messages[0]", 3)

    def test_unknown_field_in_a_map_of_messages(self):
        message = reward_pb2.Score(heads={"factuality": reward_pb2.HeadScore(value=1)})
        message.heads["factuality"].MergeFromString(b"\x98\x06\x01")
        with pytest.raises(InvalidRequest) as e:
            wire.parse(reward_pb2.Score, message.SerializeToString())
        assert e.value.field == "heads['factuality']"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (ScoreRequest(samples=(), heads=()), "heads is empty"),
        (ScoreRequest(samples=(), weights={}), "weights is empty"),
        (Sample(prompt="p", responses=("r",), offsets=((),)), "offsets holds an empty list"),
        (Sample(prompt="p", responses=("r",), offsets=(((0, 2**31),),)), "cannot be sent"),
        (Sample(prompt="\ud800", responses=("r",)), "cannot be sent"),
        (Sample(prompt=3, responses=("r",)), "cannot be sent"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_does_not_fit_is_refused(bad, says):
    with pytest.raises(InvalidRequest, match=says):
        wire.to_proto(bad)
