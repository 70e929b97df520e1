"""What holds of every model holds of redistributed ones, and they are the same through every door."""

import math
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pico
import pytest
from congruence.conftest import Served, serve
from congruence.test_doors import CHAT, QUESTION, assert_same
from congruence.test_invariants import QUESTION as RESPONSES
from congruence.test_invariants import STRANGERS, TOLERANCE, scores
from doors import open_doors

from tureen import RankRequest, Redistribution, ScoreRequest
from tureen.contracts import Granularity
from tureen.engine.loading import load_model

MODELS = {"encoder": pico.bert_classifier, "decoder": pico.llama_classifier}


@pytest.fixture(
    scope="module",
    params=[(model, how) for model in MODELS for how in ("ablation", "attention")],
    ids=lambda param: " by ".join(param),
)
def served(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    name, how = request.param
    directory = MODELS[name](tmp_path_factory.mktemp(name) / "m", 2)
    model = load_model(directory, device="cpu", threads=1, redistribute=how)
    with serve(model) as running:
        yield running


def how_of(served: Served) -> Redistribution:
    (how,) = {head.redistribution for head in served.doors.scorer.model().heads}
    assert how is not None
    return how


def test_every_unit_of_reward_has_an_address(served, ask):
    offsets = tuple(
        tuple((place, place + 1) for place in range(len(response)))
        for response in RESPONSES.responses
    )
    sample = replace(RESPONSES, offsets=offsets)
    told_apart = 0
    for response, score in zip(
        RESPONSES.responses, scores(ask(ScoreRequest(samples=(sample,)))), strict=True
    ):
        assert score.segments is not None
        assert score.token_rewards is not None
        total = math.fsum(segment.reward for segment in score.segments)
        assert total == pytest.approx(score.reward, abs=TOLERANCE)
        assert math.fsum(score.token_rewards) == pytest.approx(score.reward, abs=TOLERANCE)
        for name, head in score.heads.items():
            parts = [segment for segment in score.segments if segment.head == name]
            assert "".join(response[part.start : part.end] for part in parts) == response
            mark = how_of(served) if len(parts) > 1 else None
            assert {part.redistribution for part in parts} == {mark}
            value = math.fsum(part.value for part in parts) / len(parts)
            assert value == pytest.approx(head.value, abs=TOLERANCE)
        ends = {segment.end for segment in score.segments}
        landed = {place + 1 for place, reward in enumerate(score.token_rewards) if reward}
        assert landed <= ends
        told_apart += len(ends) > 1
    assert told_apart >= 2


def test_a_segment_does_not_depend_on_its_neighbours(served):
    alone = served.in_process(ScoreRequest(samples=(RESPONSES,)))
    crowd = served.in_process(ScoreRequest(samples=(*STRANGERS, RESPONSES)))
    for before, after in zip(
        scores(alone), scores(crowd)[-len(RESPONSES.responses) :], strict=True
    ):
        assert_same(after, before)


@pytest.mark.parametrize("way", ["http", "grpc", "split", "stream"])
def test_every_door_gives_the_segments_of_the_engine(served, way: str):
    request = ScoreRequest(samples=(QUESTION, CHAT, RESPONSES))
    assert_same(served.ask(way)(request), served.in_process(request))


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_every_door_ranks_and_describes_alike(served, door: str):
    client = getattr(served, door)
    request = RankRequest(prompt=QUESTION.prompt, responses=QUESTION.responses)
    expected = served.doors.call(served.doors.scorer.rank(request))
    assert_same(client.rank(QUESTION.prompt, QUESTION.responses), expected)
    info = client.model()
    assert info == served.doors.scorer.model()
    assert {head.granularity for head in info.heads} == {Granularity.RESPONSE}
    assert {head.redistribution for head in info.heads} == {how_of(served)}


BODY = {"samples": [{"prompt": "Who?", "responses": ["It is he. She is not.", "No."]}]}


def test_in_json_the_mark_is_there_only_where_it_says_something(served):
    answer = httpx2.post(served.doors.url + "/v1/score", json=BODY).json()
    several, one = answer["results"][0]["scores"]
    assert {segment["redistribution"] for segment in several["segments"]} == {how_of(served)}
    assert all("redistribution" not in segment for segment in one["segments"])


def test_without_redistribution_json_is_what_it_was(tmp_path):
    with open_doors(load_model(pico.bert_classifier(tmp_path / "m"), device="cpu")) as doors:
        for response in (
            httpx2.post(doors.url + "/v1/score", json=BODY),
            httpx2.get(doors.url + "/v1/models"),
        ):
            assert response.status_code == 200
            assert b"redistribution" not in response.content
