from __future__ import annotations

import json

import pytest
from contracts.strategies import contract
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen import wire
from tureen.client import codec
from tureen.contracts import (
    Calibration,
    ErrorInfo,
    HeadInfo,
    Message,
    Sample,
    Score,
    ScoreRequest,
    ScoreResponse,
)
from tureen.errors import InvalidRequest

ANSWER = {
    "model": "m",
    "fingerprint": "sha256:9f",
    "soup": "uniform:4",
    "results": [
        {
            "id": "q1",
            "error": None,
            "scores": [
                {
                    "reward": 1,
                    "heads": {"factuality": {"value": 2.1, "calibrated": 0.9, "std": None}},
                    "tokens": 63,
                }
            ],
        }
    ],
}


def changed(**changes):
    document = json.loads(json.dumps(ANSWER))
    document["results"][0]["scores"][0] |= changes
    return json.dumps(document).encode()


@pytest.mark.parametrize("kind", wire.MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_there_and_back_is_the_identity(kind, data):
    before = data.draw(contract(kind))
    assert codec.read(kind, codec.write(before)) == before


def test_what_is_written():
    sample = Sample(
        messages=(Message(role="user", content="Où ?"),), responses=("là",), offsets=(((0, 2),),)
    )
    document = json.loads(codec.write(ScoreRequest(samples=(sample,), weights={"a": 0})))
    assert document["samples"] == [
        {
            "id": None,
            "prompt": None,
            "messages": [{"role": "user", "content": "Où ?"}],
            "context": [],
            "responses": ["là"],
            "offsets": [[[0, 2]]],
        }
    ]
    assert (document["weights"], document["aggregation"]) == ({"a": 0}, "mean")


def test_fields_of_a_newer_server_are_passed_over():
    document = json.loads(changed(colour="blue")) | {"etag": 3}
    response = codec.read(ScoreResponse, json.dumps(document).encode())
    assert response.results[0].scores is not None
    [score] = response.results[0].scores
    assert (score.reward, type(score.reward), score.tokens) == (1.0, float, 63)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reward": None}, r"results\[0\]\.scores\[0\]\.reward: a number is needed, got null"),
        ({"reward": "1.0"}, r'reward: a number is needed, got "1.0"'),
        ({"reward": True}, "reward: a number is needed, got true"),
        ({"tokens": 63.0}, "tokens: an integer is needed, got 63.0"),
        ({"heads": []}, "heads: an object is needed"),
        ({"heads": {"h": {"value": 1.0}}}, r"heads\['h'\]\.calibrated: a value is needed, got not"),
        ({"segments": {}}, "segments: a list is needed"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_its_place(changes, says):
    with pytest.raises(codec.Mismatch, match=says):
        codec.read(ScoreResponse, changed(**changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_reward_that_is_no_number_is_refused(number):
    document = changed().replace(b'"reward": 1', f'"reward": {number}'.encode())
    with pytest.raises(ValueError, match="finite"):
        codec.read(ScoreResponse, document)


def test_numbers_too_large_for_a_double_are_refused():
    with pytest.raises(ValueError, match="finite"):
        codec.read(Calibration, b'{"mean": 1e999, "std": 1.0}')


def test_an_unknown_member_of_an_enumeration_is_refused():
    head = b'{"name":"h","granularity":"page","weight":1,"calibration":{"mean":0,"std":1}}'
    with pytest.raises(codec.Mismatch, match="granularity: one of response, sentence, sub_sent"):
        codec.read(HeadInfo, head)


@pytest.mark.parametrize("document", [b"", b"<html>", b"[]", b"null", b'{"reward": 1}', b"\xff"])
def test_what_is_no_contract_is_a_value_error(document):
    with pytest.raises(ValueError):  # noqa: PT011  (of json, of the decoder, or Mismatch)
        codec.read(Score, document)


def test_spans_have_two_ends():
    with pytest.raises(codec.Mismatch, match=r"offsets\[0\]\[0\]: a list of 2 is needed"):
        codec.read(Sample, b'{"responses": ["r"], "offsets": [[[1]]]}')


@pytest.mark.parametrize(("got", "kind"), [("3", int), ("3.0", float), ('"3"', str)])
def test_figures_keep_their_kind(got, kind):
    info = codec.read(ErrorInfo, f'{{"code":"c","message":"m","got":{got}}}'.encode())
    assert type(info.got) is kind


@pytest.mark.parametrize(
    "bad", [Sample(prompt="\ud800", responses=("r",)), Calibration(mean=float("nan")), object()]
)
def test_what_json_cannot_say_is_refused(bad):
    with pytest.raises(InvalidRequest, match="cannot be sent"):
        codec.write(bad)
