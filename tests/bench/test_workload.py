import json

import pytest
from bench.workload import (
    REAL,
    SYNTHETIC,
    Workload,
    grpc_requests,
    http_requests,
    rerank_requests,
    words_of,
)
from real_data import REASON, data_directory

from tureen.v1 import reward_pb2 as pb


def test_nothing_is_sent_twice():
    workload = Workload(real=False)
    drawn = workload.samples(500) + workload.samples(500, responses=4)
    assert len({sample.prompt for sample in drawn}) == 1000
    assert len({sample.id for sample in drawn}) == 1000


def test_the_same_seed_draws_the_same():
    assert Workload(7, real=False).samples(5) == Workload(7, real=False).samples(5)
    assert Workload(7, real=False).samples(5) != Workload(8, real=False).samples(5)


def test_synthetic_words_have_the_lengths_of_the_table():
    """Medians of lengths.json: 9 words of prompt (and a number), 446 of context, 65 of response."""
    workload = Workload(real=False)
    assert workload.source == SYNTHETIC
    words = words_of(workload.samples(2000))
    assert words["prompt"][1] == pytest.approx(10, abs=1)
    assert words["context"][1] == pytest.approx(446, rel=0.1)
    assert words["response"][1] == pytest.approx(65, rel=0.1)


@pytest.mark.skipif(data_directory() is None, reason=REASON)
def test_real_questions_are_taken_where_they_are():
    workload = Workload()
    assert workload.source == REAL
    (sample,) = workload.samples(1, responses=4)
    assert len(set(sample.responses)) > 1
    assert sample.context


def test_every_door_is_asked_the_same():
    samples = Workload(real=False).samples(3, responses=2)
    for sample, http, grpc in zip(
        samples, http_requests(samples), grpc_requests(samples), strict=True
    ):
        (in_json,) = json.loads(http.payload)["samples"]
        (in_proto,) = pb.ScoreRequest.FromString(grpc.payload).samples
        assert http.id == grpc.id == in_proto.id == sample.id
        assert in_json["prompt"] == in_proto.prompt == sample.prompt
        assert tuple(in_json["responses"]) == tuple(in_proto.responses) == sample.responses
        assert tuple(in_json["context"]) == tuple(in_proto.context) == sample.context


def test_peers_get_question_and_response():
    (sample,) = Workload(real=False).samples(1)
    (request,) = rerank_requests([sample], "some-model")
    assert json.loads(request.payload) == {
        "model": "some-model",
        "query": sample.prompt,
        "documents": list(sample.responses),
    }
